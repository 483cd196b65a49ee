/* What a generation is made of, besides scripts: configuration, overlay, certificates. */
// SPDX-License-Identifier: MIT
#include "engine/collect.h"

#include <stdlib.h>
#include <unistd.h>

/* Adds the hashes of certificates and keys, a line each. */
static bool add_tls(struct bundle *b, const struct config_tls *tls)
{
    struct bundle seen = {0};
    struct problems ignored = {0};
    struct buf text = {0};
    for (size_t i = 0; i < tls->count; i++) {
        bundle_read(&seen, tls->files[i].certificate, "", &ignored);
        bundle_read(&seen, tls->files[i].key, "", &ignored);
    }
    for (size_t i = 0; i < seen.count; i++)
        buf_printf(&text, "%016llx %s\n", (unsigned long long)str_hash(seen.files[i].text), seen.files[i].name);
    bool ok = buf_ok(&text) && bundle_add(b, BUNDLE_TLS, BUNDLE_TLS, buf_len(&text) ? buf_str(&text) : STR(""));
    buf_done(&text);
    bundle_clear(&seen);
    problems_done(&ignored);
    return ok;
}

static void add_overlay(struct bundle *b, const char *state, struct problems *problems)
{
    char path[4096];
    config_overlay_path(state, path, sizeof path);
    if (access(path, F_OK) == 0)
        bundle_read(b, path, BUNDLE_OVERLAY, problems);
}

struct bundle *bundle_collect(const struct bundle_from *from, struct problems *problems)
{
    struct bundle *b = calloc(1, sizeof *b);
    size_t before = problems->count;
    if (!b)
        return NULL;
    if (from->config)
        bundle_read(b, from->config, BUNDLE_CONFIG, problems);
    if (from->state)
        add_overlay(b, from->state, problems);
    if (from->rules)
        bundle_read_folder(b, from->rules, problems);
    bool ok = !from->tls || !from->tls->count || add_tls(b, from->tls);
    if (ok && problems->count == before && bundle_complete(b))
        return b;
    bundle_free(b);
    return NULL;
}

struct config_texts bundle_texts(const struct bundle *b)
{
    const struct source *file = bundle_find(b, BUNDLE_CONFIG), *overlay = bundle_find(b, BUNDLE_OVERLAY);
    struct config_texts texts = {.file_name = ""};
    if (file) {
        texts.file = file->text;
        texts.file_name = file->name;
    }
    if (overlay) {
        texts.overlay = overlay->text;
        texts.overlay_name = overlay->name;
    }
    return texts;
}

struct bundle *config_collect(const struct options *options, struct problems *problems)
{
    struct bundle_from from = {.config = config_path(options)};
    struct bundle *file = bundle_collect(&from, problems);
    struct config_texts texts = file ? bundle_texts(file) : (struct config_texts){0};
    struct problems ignored = {0};
    struct config config;
    struct bundle *both = NULL;
    config_read(&config, options, &texts, &ignored); /* what is wrong with it is told when it is read whole */
    from.state = config.key[CONFIG_STATE].text;
    if (file)
        both = bundle_collect(&from, problems);
    config_done(&config);
    problems_done(&ignored);
    bundle_free(file);
    return both;
}

uint64_t bundle_signature(const struct bundle_from *from)
{
    uint64_t hash = 1;
    char overlay[4096];
    if (from->config)
        bundle_sign(&hash, from->config);
    config_overlay_path(from->state, overlay, sizeof overlay);
    bundle_sign(&hash, overlay);
    for (size_t i = 0; i < from->tls->count; i++) {
        bundle_sign(&hash, from->tls->files[i].certificate);
        bundle_sign(&hash, from->tls->files[i].key);
    }
    bundle_sign_folder(&hash, from->rules);
    return hash;
}
