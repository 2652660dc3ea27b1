/* What the parts of a model directory are, told from headers and configuration files alone. */
#ifndef CLI_INVENTORY_H
#define CLI_INVENTORY_H

#include "console.h"
#include "checkpoint.h"

/* Elements of all parameters; buffers that a checkpoint carries along are not counted. */
int64_t cli_parameters(const swm_weights *weights);

typedef enum cli_part_state { CLI_PART_PRESENT, CLI_PART_MISSING, CLI_PART_BROKEN, CLI_PART_OPTIONAL } cli_part_state;

typedef struct cli_part {
    const char *name;
    cli_part_state state;
    char *summary, *detail;         /* one line each; NULL: none */
    const char *repository, *place; /* where to get it and where to put it, when it is not present */
    swm_error problem;              /* of a broken part */
    cJSON *json;
} cli_part;

enum { CLI_PART_CONFIG, CLI_PART_DIT, CLI_PART_VAE, CLI_PART_TEXT_ENCODER, CLI_PART_REFINER, CLI_PART_COUNT };

/* Look at every part; nothing found wrong is a failure here. Free with cli_inventory_free. */
void cli_inventory_take(cli_part parts[CLI_PART_COUNT], const swm_layout *layout, bool fingerprints);
void cli_inventory_free(cli_part parts[CLI_PART_COUNT]);

#endif
