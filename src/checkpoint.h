/* A model directory: where its parts are, what its configuration says, and the networks bound to its weights. */
#ifndef SWM_CHECKPOINT_H
#define SWM_CHECKPOINT_H

#include "io/config.h"
#include "io/weights.h"
#include "model/dit.h"
#include "model/refiner.h"
#include "model/vae.h"
#include "text/connectors.h"
#include "text/gemma.h"
#include "text/tokenizer.h"

/* Where parts lie that are not at their place in the directory, and how the model is opened. */
typedef struct swm_checkpoint_options {
    const char *dit, *text_encoder; /* NULL: look for them */
    const char *refiner;            /* directory with transformer/, or one with refiner/ or refiner_diffusers/ */
    bool with_refiner;              /* open the second stage too, if there is one */
    const char *refiner_lora;       /* adapter merged into the refiner's transformer; NULL: none */
    double refiner_lora_strength;   /* 0: 1 */
    int threads;                    /* for that; 0: as many as the machine has */
    bool softcap;                   /* in Gemma 2 */
} swm_checkpoint_options;

/* Paths of the parts, found without opening any weights; a part that is not there is NULL. */
typedef struct swm_layout {
    char *directory;            /* snapshots of a Hugging Face cache resolved */
    char *config;               /* config.yaml */
    char *dit;                  /* weights: a file, an index, or a directory that swm_weights_open takes */
    char *vae;                  /* directory: config.json and weights */
    char *text_encoder;         /* directory: config.json, weights, tokenizer */
    char *refiner;              /* directory: transformer/ and connectors/ */
    char *refiner_text_encoder; /* directory of Gemma 3, beside them or, as gemma3_12b/, beside the refiner */
    bool refiner_streaming;     /* the streaming release's refiner, which was made to work in blocks */
} swm_layout;

/* options NULL: look for everything. Missing parts are no error here. */
int swm_layout_find(swm_layout *layout, const char *directory, const swm_checkpoint_options *options, swm_error *error);
void swm_layout_free(swm_layout *layout);

/* The second stage. */
typedef struct swm_refiner_parts {
    swm_weights *transformer_weights, *connector_weights, *text_weights;
    swm_refiner *transformer;   /* NULL: there is none */
    swm_connectors *connectors; /* NULL: prompts cannot be encoded, only read from files */
    swm_gemma gemma;            /* {0} likewise */
    swm_tokenizer *tokenizer;   /* NULL likewise */
} swm_refiner_parts;

typedef struct swm_checkpoint {
    swm_layout layout;
    swm_pipeline_config config;
    swm_weights *dit_weights, *vae_weights, *text_weights; /* text_weights NULL: null caption */
    swm_dit *dit;
    swm_vae *vae;
    swm_gemma gemma;          /* {0} without a text encoder */
    swm_tokenizer *tokenizer; /* NULL without one */
    swm_refiner_parts refiner;
} swm_checkpoint;

/* Everything that generation needs, bound and checked against the configuration. options NULL: defaults. */
int swm_checkpoint_open(swm_checkpoint *checkpoint, const char *directory, const swm_checkpoint_options *options,
                        swm_error *error);
/* The release's shapes without any files, for plans. Not for running. */
int swm_checkpoint_open_release(swm_checkpoint *checkpoint, swm_error *error);
/* Its config.yaml, as far as it is read. */
extern const char swm_checkpoint_release_config[];
void swm_checkpoint_close(swm_checkpoint *checkpoint);

/* A directory with Gemma's config.json, weights and tokenizer: the last of which may lie in `tokenizer` instead, if not
 * NULL. What was opened by the time of a failure is left to swm_checkpoint_close. */
int swm_text_encoder_open(const char *directory, const char *tokenizer, bool softcap, swm_gemma *gemma,
                          swm_weights **weights, swm_tokenizer **words, swm_error *error);

/* The parts of a refiner that layout names, checked against each other and `latent_channels`. A text encoder may be
 * missing. latent_channels 0: any. swm_refiner_close also after a failure. */
int swm_refiner_open(swm_refiner_parts *parts, const swm_layout *layout, const swm_checkpoint_options *options,
                     int64_t latent_channels, swm_error *error);
void swm_refiner_close(swm_refiner_parts *parts);
/* Fails, with what is missing, unless prompts can be encoded for the refiner. */
int swm_refiner_can_encode(const swm_checkpoint *checkpoint, swm_error *error);

/* What is read of a part: LTX-2's audio half and Gemma's pictures are not. */
typedef struct swm_part_size {
    int64_t parameters;
    size_t bytes;
} swm_part_size;
swm_part_size swm_transformer_size(const swm_refiner *refiner);
swm_part_size swm_connectors_size(const swm_connectors *connectors);
swm_part_size swm_gemma_size(const swm_gemma *gemma);

/* The video size that the configuration stands for: image_size 720 means 1280x704. */
void swm_checkpoint_video_size(const swm_pipeline_config *config, int *width, int *height);

#endif
