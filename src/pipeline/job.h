/* What the two halves of resolving a job share. */
#ifndef SWM_JOB_H
#define SWM_JOB_H

#include "pipeline/pipeline.h"

__attribute__((format(printf, 2, 3))) void swm_job_notice(const swm_events *events, const char *format, ...);

/* The path of a file that the run will write, or NULL. Fails when nothing can be written there. */
int swm_job_copy_output(char **to, const char *path, swm_error *error);

/* In the first stage's place: its result from a file. */
int swm_job_resolve_latents(swm_job *job, const swm_request *request, const swm_events *events, swm_error *error);
/* The second stage's settings and prompt, behind everything else. */
int swm_job_resolve_refiner(swm_job *job, const swm_request *request, swm_error *error);

#endif
