SELECT perdure.admit(%(tenant_id)s, %(tenant)s, %(user_id)s)
