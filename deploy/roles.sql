-- Gives the roles of the services and of the operator's command, which the migration makes without passwords, the passwords that compose.yaml mounts.
-- Run by psql as the owner after each migration; doing it again changes nothing. A password never reaches the server's
-- log, not even with a statement that fails.
\set ON_ERROR_STOP on
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

\set activation `cat /run/secrets/activation_password`
\set heartbeat `cat /run/secrets/heartbeat_password`
\set reaper `cat /run/secrets/reaper_password`
\set portal `cat /run/secrets/portal_password`
\set operator `cat /run/secrets/operator_password`

ALTER ROLE seatkeeper_activation PASSWORD :'activation';
ALTER ROLE seatkeeper_heartbeat PASSWORD :'heartbeat';
ALTER ROLE seatkeeper_reaper PASSWORD :'reaper';
ALTER ROLE seatkeeper_portal PASSWORD :'portal';
ALTER ROLE seatkeeper_operator PASSWORD :'operator';
