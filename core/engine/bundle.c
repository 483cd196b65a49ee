// SPDX-License-Identifier: MIT
#include "engine/bundle.h"

#include "base/err.h"
#include "engine/embedded.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 16 };

static bool has_suffix(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, ".lua") == 0 && name[0] != '.';
}

/* The list with one place more at its end, or NULL. */
static struct source *grow(struct bundle *b)
{
    struct source *files = realloc(b->files, (b->count + 1) * sizeof *files);
    if (files)
        b->files = files;
    return files;
}

bool bundle_add(struct bundle *b, const char *path, const char *name, struct str text)
{
    struct source *files = grow(b);
    if (!files)
        return false;
    char *copy = malloc(text.len + 1);
    files[b->count] = (struct source){strdup(path), strdup(name), {copy, text.len}, false};
    if (!copy || !files[b->count].path || !files[b->count].name)
        return false;
    memcpy(copy, text.p, text.len);
    copy[text.len] = 0;
    b->count++;
    return true;
}

void bundle_read(struct bundle *b, const char *file, const char *path, struct problems *problems)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        problems_add(problems, file, 0, "cannot be read: %s", strerror(errno));
    } else if (st.st_size > BUNDLE_FILE_BYTES) {
        problems_add(problems, file, 0, "is larger than %d MiB; split it", BUNDLE_FILE_BYTES >> 20);
    } else if (b->count >= BUNDLE_FILES_MAX) {
        problems_add(problems, file, 0, "is one file too many: at most %d", BUNDLE_FILES_MAX);
    } else {
        struct buf text = {0};
        char *room;
        ssize_t n;
        while ((room = buf_room(&text, 65536)) && (n = read(fd, room, 65536)) > 0)
            buf_wrote(&text, (size_t)n);
        struct str s = buf_str(&text);
        if (!buf_ok(&text) || !bundle_add(b, path, file, s.len ? s : STR("")))
            problems_add(problems, file, 0, "out of memory");
        buf_done(&text);
    }
    if (fd >= 0)
        close(fd);
}

void bundle_clear(struct bundle *b)
{
    for (size_t i = 0; i < b->count; i++) {
        if (b->files[i].builtin)
            continue;
        free((char *)b->files[i].path);
        free((char *)b->files[i].name);
        free((char *)b->files[i].text.p);
    }
    free(b->files);
}

static void walk(struct bundle *b, const char *folder, const char *under, int depth,
                 struct problems *problems)
{
    DIR *dir = depth < DEPTH_MAX ? opendir(folder) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char file[4096], path[1024];
        struct stat st;
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(file, sizeof file, "%s/%s", folder, entry->d_name);
        int m = snprintf(path, sizeof path, "%s%s", under, entry->d_name);
        if (n >= (int)sizeof file || m >= (int)sizeof path - 2 || stat(file, &st) < 0)
            continue;
        if (S_ISDIR(st.st_mode)) {
            strcat(path, "/");
            walk(b, file, path, depth + 1, problems);
        } else if (S_ISREG(st.st_mode) && has_suffix(entry->d_name)) {
            bundle_read(b, file, path, problems);
        }
    }
    if (dir)
        closedir(dir);
}

void bundle_read_folder(struct bundle *b, const char *folder, struct problems *problems)
{
    walk(b, folder, "", 0, problems);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct source *)a)->path, ((const struct source *)b)->path);
}

/* Sorts, hashes and adds the files of the program. */
bool bundle_complete(struct bundle *b)
{
    if (b->count)
        qsort(b->files, b->count, sizeof *b->files, by_path);
    b->own = b->count;
    for (size_t i = 0; i < b->own; i++) {
        b->hash = (b->hash ^ str_hash(str_from(b->files[i].path))) * 0x100000001b3U;
        b->hash = (b->hash ^ str_hash(b->files[i].text)) * 0x100000001b3U;
    }
    for (const struct embedded *e = embedded_files; e->path; e++) {
        const char *path = strncmp(e->path, "rules/", 6) == 0 ? e->path + 6 : e->path;
        if (!grow(b))
            return false;
        b->files[b->count++] = (struct source){path, e->path, {e->start, (size_t)(e->end - e->start)}, true};
    }
    return true;
}

/* Cuts a line off; false at the end. */
static bool next_line(struct str *rest, char *out, size_t size)
{
    const char *end = memchr(rest->p, '\n', rest->len);
    if (!end || (size_t)(end - rest->p) >= size)
        return false;
    size_t len = (size_t)(end - rest->p);
    memcpy(out, rest->p, len);
    out[len] = 0;
    rest->p += len + 1;
    rest->len -= len + 1;
    return true;
}

struct bundle *bundle_load(const char *file, struct problems *problems)
{
    struct bundle *whole = calloc(1, sizeof *whole), *b = calloc(1, sizeof *b);
    size_t before = problems->count;
    char path[1024], name[4096], number[32];
    uint64_t len;
    if (whole && b)
        bundle_read(whole, file, "bundle", problems);
    bool ok = whole && b && whole->count == 1;
    struct str rest = ok ? whole->files[0].text : (struct str){"", 0};
    ok = ok && next_line(&rest, path, sizeof path) && strcmp(path, "perilune-bundle 1") == 0;
    while (ok && rest.len) {
        ok = next_line(&rest, path, sizeof path) && next_line(&rest, name, sizeof name) &&
             next_line(&rest, number, sizeof number) && str_to_u64(str_from(number), &len) &&
             len < rest.len && bundle_add(b, path, name, (struct str){rest.p, len});
        if (ok) {
            rest.p += len + 1;
            rest.len -= len + 1;
        }
    }
    ok = ok && bundle_complete(b);
    bundle_free(whole);
    if (ok)
        return b;
    if (problems->count == before)
        problems_add(problems, file, 0, "is not a saved generation");
    bundle_free(b);
    return NULL;
}

int bundle_save(const struct bundle *b, const char *path)
{
    struct buf text = {0};
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    buf_add_str(&text, STR("perilune-bundle 1\n"));
    for (size_t i = 0; i < b->own; i++) {
        buf_printf(&text, "%s\n%s\n%zu\n", b->files[i].path, b->files[i].name, b->files[i].text.len);
        buf_add_str(&text, b->files[i].text);
        buf_add_char(&text, '\n');
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct str s = buf_str(&text);
    bool ok = fd >= 0 && buf_ok(&text);
    while (ok && s.len) {
        ssize_t n = write(fd, s.p, s.len);
        ok = n > 0;
        s.p += ok ? n : 0;
        s.len -= ok ? (size_t)n : 0;
    }
    ok = ok && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    buf_done(&text);
    return ok && rename(temporary, path) == 0 ? 0 : ERR_IO;
}

void bundle_free(struct bundle *b)
{
    if (!b)
        return;
    bundle_clear(b);
    free(b);
}

const struct source *bundle_find(const struct bundle *b, const char *path)
{
    for (size_t i = 0; i < b->own; i++)
        if (strcmp(b->files[i].path, path) == 0)
            return &b->files[i];
    return NULL;
}

static void mix(uint64_t *hash, const void *p, size_t len)
{
    /* Order of a folder's entries does not matter: add, do not chain. */
    *hash += str_hash((struct str){p, len});
}

void bundle_sign(uint64_t *hash, const char *file)
{
    struct stat st;
    struct {
        uint64_t name, size, inode;
        int64_t seconds, nanoseconds;
    } key = {.name = str_hash(str_from(file))};
    if (stat(file, &st) == 0) {
        key.size = (uint64_t)st.st_size;
        key.inode = st.st_ino;
        key.seconds = st.st_mtim.tv_sec;
        key.nanoseconds = st.st_mtim.tv_nsec;
    }
    mix(hash, &key, sizeof key);
}

static void sign_folder(uint64_t *hash, const char *folder, int depth)
{
    DIR *dir = depth < DEPTH_MAX ? opendir(folder) : NULL;
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        char file[4096];
        struct stat st;
        if (entry->d_name[0] == '.' ||
            snprintf(file, sizeof file, "%s/%s", folder, entry->d_name) >= (int)sizeof file)
            continue;
        if (entry->d_type == DT_DIR || (entry->d_type != DT_REG && stat(file, &st) == 0 && S_ISDIR(st.st_mode)))
            sign_folder(hash, file, depth + 1);
        else if (has_suffix(entry->d_name))
            bundle_sign(hash, file);
    }
    if (dir)
        closedir(dir);
}

void bundle_sign_folder(uint64_t *hash, const char *folder)
{
    if (folder)
        sign_folder(hash, folder, 0);
}
