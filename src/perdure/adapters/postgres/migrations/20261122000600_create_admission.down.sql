DROP FUNCTION perdure.admit(uuid, text, uuid);
