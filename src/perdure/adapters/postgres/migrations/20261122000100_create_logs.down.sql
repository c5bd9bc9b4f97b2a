DROP TABLE perdure.store_audit;
DROP TABLE perdure.log_entries;
DROP TABLE perdure.log_remains;
DROP TABLE perdure.logs;
DROP FUNCTION perdure.refuse_record_change();
DROP DOMAIN perdure.store_kind;
