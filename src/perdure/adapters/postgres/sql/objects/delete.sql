SELECT perdure.delete_object(%(tenant_id)s, %(space_id)s, %(digest)b, %(before)s::timestamptz, %(patience_ms)s)
