# One image per service: docker build --target gateway . (or inference, recorder, local, training, mlflow).
# Each contains only its own locked packages; none contains pip, a compiler, or a file that it may write.
ARG PYTHON=python:3.11-slim-bookworm

# The environment that the stages below install into; pip is not copied with it.
FROM ${PYTHON} AS installer
RUN python3 -m venv --without-pip /opt/venv
ENV INSTALL="python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes --only-binary=:all:"

FROM installer AS gateway-packages
COPY requirements/gateway.txt .
RUN $INSTALL -r gateway.txt

FROM installer AS inference-packages
COPY requirements/inference.txt .
RUN $INSTALL -r inference.txt

FROM installer AS recorder-packages
COPY requirements/recorder.txt .
RUN $INSTALL -r recorder.txt

FROM installer AS local-packages
COPY requirements/gateway.txt requirements/inference.txt requirements/recorder.txt ./
RUN $INSTALL -r gateway.txt -r inference.txt -r recorder.txt

FROM installer AS training-packages
COPY requirements/run.txt .
# A dependency of DVC is published as source only.
RUN $INSTALL --no-binary=antlr4-python3-runtime -r run.txt

FROM installer AS mlflow-packages
COPY requirements/mlflow.txt .
RUN $INSTALL -r mlflow.txt

# User, folder, health check and stop signal. /var/predecir is a service's folder; var/ is in it.
FROM ${PYTHON} AS base
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/predecir --shell /usr/sbin/nologin predecir \
    && cd /var && install -d -o predecir -g predecir predecir \
    && install -d -m 700 -o predecir -g predecir predecir/outbox predecir/trust \
        predecir/var predecir/var/access predecir/var/keys predecir/var/models
COPY deploy/healthy deploy/slot /usr/local/bin/
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/opt/predecir PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/predecir
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=30s --retries=6 CMD ["healthy"]

# A separate layer for the code of all services: it changes often, the packages below it do not.
FROM base AS code
COPY shared /opt/predecir/shared
COPY services /opt/predecir/services
RUN python3 -m compileall -q /opt/predecir

FROM base AS gateway
COPY --from=gateway-packages /opt/venv /opt/venv
COPY --from=code /opt/predecir /opt/predecir
ENV PORT=8000
USER predecir
CMD ["python", "-m", "services.gateway"]

FROM base AS inference
COPY --from=inference-packages /opt/venv /opt/venv
COPY --from=code /opt/predecir /opt/predecir
ENV PORT=8001
USER predecir
CMD ["python", "-m", "services.inference"]

FROM base AS recorder
COPY --from=recorder-packages /opt/venv /opt/venv
COPY --from=code /opt/predecir /opt/predecir
ENV PORT=8002
USER predecir
CMD ["python", "-m", "services.recorder"]

FROM base AS local
COPY --from=local-packages /opt/venv /opt/venv
COPY --from=code /opt/predecir /opt/predecir
ENV PORT=8000
USER predecir
CMD ["python", "-m", "services.local"]

# A job, not a service: DVC's stages on the data of this repository, run in a copy of this folder (deploy/train).
FROM base AS training
COPY --from=training-packages /opt/venv /opt/venv
COPY dvc.yaml dvc.lock params.yaml .dvcignore /opt/predecir/
COPY .dvc/config /opt/predecir/.dvc/config
COPY data /opt/predecir/data
COPY shared /opt/predecir/shared
COPY training /opt/predecir/training
COPY deploy/train /usr/local/bin/
# A training on the machine that builds leaves dvc.lock for its owner only.
RUN chmod -R a+rX /opt/predecir
ARG GIT_COMMIT=unknown
ENV GIT_COMMIT=$GIT_COMMIT
HEALTHCHECK NONE
USER predecir
CMD ["train"]

FROM base AS mlflow
COPY --from=mlflow-packages /opt/venv /opt/venv
COPY deploy/mlflow-server /usr/local/bin/
ENV PORT=5000 HEALTH=/health
USER predecir
CMD ["mlflow-server"]
