-- What is sold, and to whom. Rows are added here; seats are changed by the ledger alone.

-- name: add_account
INSERT INTO account (id, name) VALUES ($1, $2);

-- name: add_signing_key
INSERT INTO signing_key (account_id, kid, role, public_key, sealed_with, sealed, certificate)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: add_product
INSERT INTO product (account_id, id, code, name) VALUES ($1, $2, $3, $4);

-- name: add_policy
INSERT INTO policy (account_id, id, product_id, name, kind, seats, lease_s, offline_grace_s, heartbeat_interval_s,
                    approval, rules)
SELECT $1, $2, p.id, $4, $5, $6, $7, $8, $9, $10, $11
FROM product p WHERE p.account_id = $1 AND p.code = $3
RETURNING product_id;

-- name: add_license
INSERT INTO license (account_id, id, policy_id, status, seats_limit, seats_allowed, version, expires_at, key_prefix,
                     customer)
SELECT p.account_id, $3, p.id, 'active', coalesce($4, p.seats), coalesce($4, p.seats), 1,
       coalesce($5, (p.rules ->> 'expiresAt')::timestamptz), $6, $7
FROM policy p WHERE p.account_id = $1 AND p.name = $2
RETURNING seats_limit;

-- name: add_license_key
INSERT INTO license_key (digest, key_id, account_id, license_id) VALUES ($1, $2, $3, $4);

-- name: add_audit
INSERT INTO audit (account_id, license_id, version, at, actor, event, seats_limit, seats_used, seats_allowed)
VALUES ($1, $2, 1, ledger_clock(), $3, $4, $5, 0, $5);

-- name: add_outbox
INSERT INTO outbox (account_id, license_id, version, fact, created_at) VALUES ($1, $2, 1, $3, ledger_clock());

-- name: add_activation_token
INSERT INTO activation_token (account_id, license_id, id, expires_at, max_uses)
VALUES ($1, $2, $3, ledger_clock() + make_interval(secs => $4), $5)
RETURNING expires_at, ledger_clock() AS now;

-- name: revoke_activation_token
UPDATE activation_token SET revoked_at = ledger_clock() WHERE account_id = $1 AND id = $2 AND revoked_at IS NULL;

-- name: add_management_token
INSERT INTO management_token (account_id, id, digest, key_id, name, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, ledger_clock() + make_interval(secs => $7));

-- name: list_licenses
SELECT l.account_id, l.id, l.status, l.seats_limit, l.seats_used, l.key_prefix, l.customer, l.expires_at,
       p.name AS policy
FROM license l
JOIN policy p ON p.account_id = l.account_id AND p.id = l.policy_id
WHERE l.account_id = $1 AND l.id > $2
ORDER BY l.id
LIMIT $3;

-- name: read_license
SELECT l.account_id, l.id, l.status, l.seats_limit, l.seats_used, l.key_prefix, l.customer, l.expires_at,
       p.name AS policy
FROM license l
JOIN policy p ON p.account_id = l.account_id AND p.id = l.policy_id
WHERE l.account_id = $1 AND l.id = $2;

-- name: list_accounts
SELECT id, name, created_at FROM account WHERE id > $1 ORDER BY id LIMIT $2;
