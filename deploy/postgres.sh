# Runs once, on an empty volume (sourced by the image's entrypoint). The recorder owns its database and nothing else;
# an analyst is a member of the role that reads the views. psql reads the passwords from its environment: arguments of a
# process can be read by others.
psql -v ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv recorder POSTGRES_RECORDER_PASSWORD
\getenv analyst POSTGRES_ANALYST_PASSWORD
CREATE ROLE predecir_analista NOLOGIN;
CREATE ROLE recorder LOGIN PASSWORD :'recorder';
CREATE ROLE analista LOGIN PASSWORD :'analyst' IN ROLE predecir_analista;
CREATE DATABASE mlops_db OWNER recorder;
REVOKE ALL ON DATABASE mlops_db FROM PUBLIC;
GRANT CONNECT ON DATABASE mlops_db TO predecir_analista;
ALTER ROLE analista SET default_transaction_read_only = on;
ALTER ROLE analista SET statement_timeout = '60s'; -- a forgotten query ends; an analyst may change it for a session
-- By default everybody may create large objects, and fill the disk with them.
\connect mlops_db
REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(integer), lo_from_bytea(oid, bytea) FROM PUBLIC;
SQL
