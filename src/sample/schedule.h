/* Noise levels of the samplers, and how a clip is cut into chunks. Plain numbers; no model, no state. */
#ifndef SWM_SCHEDULE_H
#define SWM_SCHEDULE_H

#include "io/config.h"

enum { SWM_MAX_STEPS = 1000 };

/* Flow-matching Euler schedule of diffusers with the shift applied twice, as the reference's configuration does:
 * sigmas (steps+1), falling from 1 to 0, and timesteps (steps) = 1000 sigma; steps in 2..SWM_MAX_STEPS. Bit-equal to the
 * reference: float32 where it has float32, double where it has double. */
void swm_schedule_euler(int steps, double shift, float *sigmas, float *timesteps);

/* The grid of DPM-Solver++ (one shift): sigmas (steps+1) falling to 0. */
void swm_schedule_dpm(int steps, double shift, float *sigmas);

/* Starts of the chunks of `frames` latent frames; a remainder shorter than `chunk` joins the last one. Writes at most
 * `frames` starts and returns their number. */
int swm_chunk_starts(swm_chunk_split split, int64_t chunk, int64_t frames, int64_t *starts);

#endif
