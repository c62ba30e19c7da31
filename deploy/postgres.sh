# Runs once, on an empty volume (sourced by the image's entrypoint). The recorder owns its database and nothing else;
# an analyst is a member of the role that reads the views.
psql -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  -v recorder="$POSTGRES_RECORDER_PASSWORD" -v analyst="$POSTGRES_ANALYST_PASSWORD" <<'SQL'
CREATE ROLE predecir_analista NOLOGIN;
CREATE ROLE recorder LOGIN PASSWORD :'recorder';
CREATE ROLE analista LOGIN PASSWORD :'analyst' IN ROLE predecir_analista;
CREATE DATABASE mlops_db OWNER recorder;
REVOKE ALL ON DATABASE mlops_db FROM PUBLIC;
GRANT CONNECT ON DATABASE mlops_db TO predecir_analista;
SQL
