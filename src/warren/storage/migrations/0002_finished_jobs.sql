-- Metrics read the jobs that ended since they last looked.
CREATE INDEX provisioner_jobs_completed ON provisioner_jobs (completed_at) WHERE completed_at IS NOT NULL;
