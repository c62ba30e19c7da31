"""The gateway's rejections. Each call makes a new error: an error that is raised keeps every frame it passes."""

from shared.web.problems import ProblemError


def saturated() -> ProblemError:
    """Return the rejection of a request above the in-flight limit."""
    return unavailable("saturado", "Hay demasiadas peticiones a la vez; inténtelo de nuevo.")


def no_room(reason: str | None = None) -> ProblemError:
    """Return the rejection of a request for whose answer there is no space; the log gets `reason`."""
    return unavailable("sin_espacio", "No queda espacio para guardar la respuesta, así que no se da.", reason)


def unwritable(reason: str) -> ProblemError:
    """Return the rejection of a request whose answer cannot be stored, though there is space; the log gets `reason`."""
    return unavailable("outbox", "La respuesta no se puede guardar en este momento, así que no se da.", reason)


def not_arrived() -> ProblemError:
    """Return the rejection of a request whose body did not arrive in time."""
    return ProblemError(408, "cortada", "Los datos no terminaron de llegar a tiempo.")


def no_model(reason: str) -> ProblemError:
    """Return the rejection of a request that no model can score; the log gets the `reason`."""
    return unavailable("modelo", "El modelo no está disponible en este momento.", reason)


def unavailable(rule: str, detail: str, reason: str | None = None) -> ProblemError:
    """Return a 503 that may be retried after a second."""
    return ProblemError(503, rule, detail, retry_after=1, reason=reason)
