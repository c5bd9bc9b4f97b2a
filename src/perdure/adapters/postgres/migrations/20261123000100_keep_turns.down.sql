ALTER DOMAIN perdure.store_kind DROP CONSTRAINT ck_store_kind;
ALTER DOMAIN perdure.store_kind ADD CONSTRAINT ck_store_kind CHECK (VALUE IN
    ('streams', 'tables', 'memory'));
