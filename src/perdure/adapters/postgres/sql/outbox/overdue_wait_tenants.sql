SELECT overdue.tenant_id, known.slug AS tenant
FROM (
    SELECT DISTINCT step.tenant_id FROM perdure.steps AS step
    WHERE step.step_type = 'WAIT' AND step.status = 'RUNNING' AND step.wait_until <= (SELECT perdure.instant())
) AS overdue
JOIN perdure.tenants AS known ON known.tenant_id = overdue.tenant_id
LIMIT %(limit)s
