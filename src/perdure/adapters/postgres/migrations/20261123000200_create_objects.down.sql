DROP FUNCTION perdure.delete_object(uuid, uuid, bytea, timestamptz, integer);
DROP FUNCTION perdure.add_object_chunks(uuid, uuid, bytea, integer, bytea[], integer);
DROP FUNCTION perdure.put_object(uuid, text, uuid, text, bytea, bigint, text, bytea[], integer);
DROP FUNCTION perdure.keep_object_chunks(uuid, uuid, bytea, integer, bytea[]);
DROP TABLE perdure.object_chunks;
DROP TABLE perdure.objects;
DROP TABLE perdure.object_spaces;
