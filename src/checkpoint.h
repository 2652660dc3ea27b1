/* A model directory: where its parts are, what its configuration says, and the networks bound to its weights. */
#ifndef SWM_CHECKPOINT_H
#define SWM_CHECKPOINT_H

#include "io/config.h"
#include "io/weights.h"
#include "model/dit.h"
#include "model/vae.h"
#include "text/gemma.h"
#include "text/tokenizer.h"

/* Paths of the parts, found without opening any weights; a part that is not there is NULL. */
typedef struct swm_layout {
    char *directory;    /* snapshots of a Hugging Face cache resolved */
    char *config;       /* config.yaml */
    char *dit;          /* weights: a file, an index, or a directory that swm_weights_open takes */
    char *vae;          /* directory: config.json and weights */
    char *text_encoder; /* directory: config.json, weights, tokenizer */
    char *refiner;      /* directory, for later */
} swm_layout;

/* dit and text_encoder override the places; NULL: look for them. Missing parts are no error here. */
int swm_layout_find(swm_layout *layout, const char *directory, const char *dit, const char *text_encoder,
                    swm_error *error);
void swm_layout_free(swm_layout *layout);

typedef struct swm_checkpoint {
    swm_layout layout;
    swm_pipeline_config config;
    swm_weights *dit_weights, *vae_weights, *text_weights; /* text_weights NULL: null caption */
    swm_dit *dit;
    swm_vae *vae;
    swm_gemma gemma;          /* {0} without a text encoder */
    swm_tokenizer *tokenizer; /* NULL without one */
} swm_checkpoint;

/* Everything that generation needs, bound and checked against the configuration. */
int swm_checkpoint_open(swm_checkpoint *checkpoint, const char *directory, const char *dit, const char *text_encoder,
                        bool softcap, swm_error *error);
/* The release's shapes without any files, for plans. Not for running. */
int swm_checkpoint_open_release(swm_checkpoint *checkpoint, swm_error *error);
void swm_checkpoint_close(swm_checkpoint *checkpoint);

/* The video size that the configuration stands for: image_size 720 means 1280x704. */
void swm_checkpoint_video_size(const swm_pipeline_config *config, int *width, int *height);

#endif
