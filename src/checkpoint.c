/* Implements checkpoint.h: places, and the parts of the first stage. */
#include "checkpoint.h"

#include "core/file.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ------------------------------------------------------------------------------------------------------- */

static char *existing(swm_error *error, const char *directory, const char *name, bool (*exists)(const char *path))
{
    char *path = swm_path_join(error, directory, name);
    if (path != NULL && exists(path)) return path;
    free(path);
    return NULL;
}

/* The only entry of a directory that is not hidden; NULL when there is none or more than one. */
static char *only_entry(const char *directory)
{
    DIR *listing = opendir(directory);
    if (listing == NULL) return NULL;
    char *found = NULL;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        free(found);
        found = swm_path_join(NULL, directory, entry->d_name);
        count++;
    }
    closedir(listing);
    if (count == 1) return found;
    free(found);
    return NULL;
}

/* A cache directory of Hugging Face (models--owner--name) stands for the snapshot that refs/main names, or its only one. */
static char *resolve_snapshot(const char *directory, swm_error *error)
{
    char *snapshots = swm_path_join(error, directory, "snapshots");
    if (snapshots == NULL) return NULL;
    char *resolved = NULL;
    if (swm_directory_exists(snapshots)) {
        char *reference = swm_path_join(error, directory, "refs/main");
        char *revision = reference != NULL ? swm_file_read(reference, 256, NULL, NULL) : NULL;
        if (revision != NULL) {
            revision[strcspn(revision, " \r\n")] = '\0';
            if (strchr(revision, '/') == NULL) resolved = existing(error, snapshots, revision, swm_directory_exists);
        }
        if (resolved == NULL) resolved = only_entry(snapshots);
        if (resolved == NULL)
            swm_fail(error, "%s: holds several snapshots and refs/main names none; give one of them", snapshots);
        free(revision);
        free(reference);
    } else {
        resolved = swm_copy_string(error, directory);
    }
    free(snapshots);
    return resolved;
}

/* transformer/ and connectors/ of either release: `place` is a model directory or, when it was named, the refiner's own. */
static void find_refiner(swm_layout *layout, const char *place, bool named, swm_error *error)
{
    char *own = named ? existing(error, place, "transformer", swm_directory_exists) : NULL;
    if (own == NULL) layout->refiner = existing(error, place, "refiner", swm_directory_exists);
    if (own == NULL && layout->refiner == NULL)
        layout->refiner = existing(error, place, "refiner_diffusers", swm_directory_exists);
    if (layout->refiner == NULL && named) layout->refiner = swm_copy_string(error, place);
    free(own);
    if (layout->refiner == NULL) return;
    const char *name = strrchr(layout->refiner, '/');
    name = name != NULL ? name + 1 : layout->refiner;
    layout->refiner_streaming = strncmp(name, "refiner_diffusers", strlen("refiner_diffusers")) == 0;
    char **encoder = &layout->refiner_text_encoder;
    *encoder = existing(error, layout->refiner, "text_encoder", swm_directory_exists);
    if (*encoder == NULL) *encoder = existing(error, layout->refiner, "../gemma3_12b", swm_directory_exists);
    if (*encoder == NULL) *encoder = existing(error, layout->directory, "gemma3_12b", swm_directory_exists);
}

static void find_text_encoder(swm_layout *layout, const char *named, swm_error *error)
{
    const char *root = layout->directory;
    layout->text_encoder =
        named != NULL ? resolve_snapshot(named, error) : existing(error, root, "text_encoder", swm_directory_exists);
    if (named != NULL || layout->text_encoder != NULL) return;
    /* Beside a release in a Hugging Face cache lies the repository of its text encoder. */
    char *cached = existing(error, root, "../../../models--Efficient-Large-Model--gemma-2-2b-it", swm_directory_exists);
    if (cached != NULL) layout->text_encoder = resolve_snapshot(cached, error);
    free(cached);
}

static int find_parts(swm_layout *layout, const char *directory, const swm_checkpoint_options *o, swm_error *error)
{
    if (!swm_directory_exists(directory))
        return swm_fail(error, "%s: is no directory; a model directory holds config.yaml, dit/ and vae/", directory);
    if (o->refiner != NULL && !swm_directory_exists(o->refiner))
        return swm_fail(error, "%s: is no directory; a refiner holds transformer/, connectors/ and text_encoder/",
                        o->refiner);
    layout->directory = resolve_snapshot(directory, error);
    if (layout->directory == NULL) return -1;
    const char *root = layout->directory;
    layout->config = existing(error, root, "config.yaml", swm_file_exists);
    layout->dit = o->dit != NULL ? swm_copy_string(error, o->dit) : existing(error, root, "dit", swm_directory_exists);
    if (layout->dit == NULL) layout->dit = existing(error, root, "sana_dit/model.pt", swm_file_exists);
    layout->vae = existing(error, root, "vae", swm_directory_exists);
    if (layout->vae == NULL) layout->vae = existing(error, root, "ltx2_causal_vae", swm_directory_exists);
    find_text_encoder(layout, o->text_encoder, error);
    char *named = o->refiner != NULL ? resolve_snapshot(o->refiner, error) : NULL;
    find_refiner(layout, named != NULL ? named : root, named != NULL, error);
    free(named);
    return swm_failed(error) ? -1 : 0;
}

int swm_layout_find(swm_layout *layout, const char *directory, const swm_checkpoint_options *options, swm_error *error)
{
    static const swm_checkpoint_options defaults;
    *layout = (swm_layout){0};
    if (find_parts(layout, directory, options != NULL ? options : &defaults, error) == 0) return 0;
    swm_layout_free(layout);
    return -1;
}

void swm_layout_free(swm_layout *layout)
{
    free(layout->directory);
    free(layout->config);
    free(layout->dit);
    free(layout->vae);
    free(layout->text_encoder);
    free(layout->refiner);
    free(layout->refiner_text_encoder);
    *layout = (swm_layout){0};
}

void swm_checkpoint_video_size(const swm_pipeline_config *config, int *width, int *height)
{
    /* 16:9 of the nominal height, both cut to whole latent cells: 720 -> 1280x704, 128 -> 224x128. */
    *height = (int)(config->image_size / 32 * 32);
    *width = (int)(config->image_size * 16 / 9 / 32 * 32);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

int swm_text_encoder_open(const char *directory, const char *tokenizer, bool softcap, swm_gemma *gemma,
                          swm_weights **weights, swm_tokenizer **words, swm_error *error)
{
    char *path = swm_path_join(error, directory, "config.json");
    swm_gemma_config config;
    int result = path != NULL ? swm_gemma_config_read(&config, path, error) : -1;
    free(path);
    if (result != 0) return -1;
    *weights = swm_weights_open(directory, error);
    *words = *weights != NULL ? swm_tokenizer_open(tokenizer != NULL ? tokenizer : directory, error) : NULL;
    if (*words == NULL || swm_gemma_bind(gemma, *weights, &config, softcap, error) != 0) return -1;
    if (swm_tokenizer_vocabulary(*words) > config.vocab_size)
        return swm_fail(error, "%s: the tokenizer has %lld tokens, the encoder knows %lld; they do not belong together",
                        directory, (long long)swm_tokenizer_vocabulary(*words), (long long)config.vocab_size);
    return 0;
}

/* What the configuration says against what the tensors are. */
static int check_agreement(const swm_checkpoint *c, swm_error *error)
{
    const swm_dit_size *s = &c->dit->size;
    const char *file = c->layout.config;
    if (s->latent_channels != c->config.vae_latent_dim || s->latent_channels != c->vae->config.latent_channels)
        return swm_fail(error,
                        "%s: vae_latent_dim is %lld, the DiT has %lld latent channels and the VAE %lld; these parts "
                        "do not belong together",
                        file, (long long)c->config.vae_latent_dim, (long long)s->latent_channels,
                        (long long)c->vae->config.latent_channels);
    if (s->plucker_channels != 48)
        return swm_fail(error, "%s: the DiT takes %lld Plucker channels; 48 are expected",
                        swm_weights_path(c->dit_weights), (long long)s->plucker_channels);
    if (c->config.model_max_length > 1 << 12)
        return swm_fail(error, "%s: model_max_length is %lld; at most 4096 is expected", file,
                        (long long)c->config.model_max_length);
    if (c->tokenizer != NULL && c->gemma.config.hidden_size != s->caption_channels)
        return swm_fail(error, "%s: has states of width %lld, the DiT takes %lld; this is another model's text encoder",
                        c->layout.text_encoder, (long long)c->gemma.config.hidden_size, (long long)s->caption_channels);
    return 0;
}

static int open_parts(swm_checkpoint *c, const swm_checkpoint_options *o, swm_error *error)
{
    const char *root = c->layout.directory;
    if (c->layout.config == NULL) return swm_fail(error, "%s: holds no config.yaml; is this a model directory?", root);
    if (c->layout.dit == NULL) return swm_fail(error, "%s: holds no dit/; pass --dit FILE if it is elsewhere", root);
    if (c->layout.vae == NULL)
        return swm_fail(error, "%s: holds no vae/; copy the bidirectional release's vae/ there", root);
    if (swm_pipeline_config_read(&c->config, c->layout.config, error) != 0) return -1;
    c->dit_weights = swm_weights_open(c->layout.dit, error);
    if (c->dit_weights == NULL) return -1;
    c->dit = swm_dit_bind(c->dit_weights, c->config.linear_head_dim, c->config.softmax_every_n, error);
    if (c->dit == NULL) return -1;
    char *path = swm_path_join(error, c->layout.vae, "config.json");
    swm_vae_config config;
    int result = path != NULL ? swm_vae_config_read(&config, path, error) : -1;
    free(path);
    if (result != 0) return -1;
    c->vae_weights = swm_weights_open(c->layout.vae, error);
    if (c->vae_weights == NULL) return -1;
    c->vae = swm_vae_bind(c->vae_weights, &config, SWM_VAE_BOTH, error);
    if (c->vae == NULL) return -1;
    const char *encoder = c->layout.text_encoder;
    if (encoder != NULL &&
        swm_text_encoder_open(encoder, NULL, o->softcap, &c->gemma, &c->text_weights, &c->tokenizer, error) != 0)
        return -1;
    if (check_agreement(c, error) != 0) return -1;
    if (!o->with_refiner || c->layout.refiner == NULL) return 0;
    return swm_refiner_open(&c->refiner, &c->layout, o, c->config.vae_latent_dim, error);
}

int swm_checkpoint_open(swm_checkpoint *c, const char *directory, const swm_checkpoint_options *options,
                        swm_error *error)
{
    static const swm_checkpoint_options defaults;
    const swm_checkpoint_options *o = options != NULL ? options : &defaults;
    *c = (swm_checkpoint){0};
    if (swm_layout_find(&c->layout, directory, o, error) == 0 && open_parts(c, o, error) == 0) return 0;
    swm_checkpoint_close(c);
    return -1;
}

void swm_checkpoint_close(swm_checkpoint *c)
{
    swm_refiner_close(&c->refiner);
    swm_tokenizer_close(c->tokenizer);
    swm_gemma_free(&c->gemma);
    free(c->vae);
    free(c->dit);
    swm_weights_close(c->text_weights);
    swm_weights_close(c->vae_weights);
    swm_weights_close(c->dit_weights);
    swm_pipeline_config_free(&c->config);
    swm_layout_free(&c->layout);
    *c = (swm_checkpoint){0};
}
