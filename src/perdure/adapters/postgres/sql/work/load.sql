SELECT perdure.load_work(%(tenant_id)s, %(space_id)s, %(unit_id)s) AS loaded
