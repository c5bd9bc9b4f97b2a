DROP FUNCTION perdure.end_overdue_waits(jsonb);
DROP FUNCTION perdure.renew_run_lease(jsonb);
DROP FUNCTION perdure.claim_runs(jsonb);
