/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What store.c leaves of each network between calls: the open lock and log, the leases read. An
 * entry is one thread's from enter to leave.
 */
#include "ipam/ipam-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Two descriptors each; the one that was used longest ago goes. */
#define NETWORKS_MAX 256

struct entry {
    struct cached cached; /* guarded by lock */
    char *path;
    pthread_mutex_t lock;
    unsigned users; /* threads in it or waiting for it; guarded by the cache's lock, like next */
    struct entry *next;
};

struct ipam_cache {
    pthread_mutex_t lock;
    struct entry *first; /* used last */
    size_t n;
};

int ipam_cache_new(struct ipam_cache **ret)
{
    struct ipam_cache *cache = calloc(1, sizeof(*cache));

    if (!cache) {
        return -ENOMEM;
    }
    pthread_mutex_init(&cache->lock, NULL);
    *ret = cache;
    return 0;
}

static void entry_free(struct entry *entry)
{
    cleanup_fd(&entry->cached.lock.fd);
    cleanup_fd(&entry->cached.log.fd);
    leases_clear(&entry->cached.leases);
    pthread_mutex_destroy(&entry->lock);
    free(entry->path);
    free(entry);
}

void ipam_cache_free(struct ipam_cache *cache)
{
    if (!cache) {
        return;
    }
    while (cache->first) {
        struct entry *entry = cache->first;

        cache->first = entry->next;
        entry_free(entry);
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

void ipam_config_use_cache(struct ipam_config *config, struct ipam_cache *cache)
{
    config->cache = cache;
}

static struct entry *entry_new(const char *path)
{
    struct entry *entry = calloc(1, sizeof(*entry));

    if (!entry || !(entry->path = strdup(path))) {
        free(entry);
        return NULL;
    }
    entry->cached.lock.fd = entry->cached.log.fd = -1;
    pthread_mutex_init(&entry->lock, NULL);
    return entry;
}

static struct entry *take_out_locked(struct ipam_cache *cache, const char *path)
{
    for (struct entry **at = &cache->first; *at; at = &(*at)->next) {
        struct entry *entry = *at;

        if (!strcmp(entry->path, path)) {
            *at = entry->next;
            cache->n--;
            return entry;
        }
    }
    return NULL;
}

static void drop_oldest_locked(struct ipam_cache *cache)
{
    struct entry **oldest = NULL, *entry;

    for (struct entry **at = &cache->first; *at; at = &(*at)->next) {
        oldest = (*at)->users ? oldest : at;
    }
    if (oldest) {
        entry = *oldest;
        *oldest = entry->next;
        cache->n--;
        entry_free(entry);
    }
}

struct cached *ipam_cache_enter(struct ipam_cache *cache, const char *path)
{
    struct entry *entry;

    pthread_mutex_lock(&cache->lock);
    entry = take_out_locked(cache, path);
    if (!entry) {
        entry = entry_new(path);
    }
    if (entry) {
        if (cache->n >= NETWORKS_MAX) {
            drop_oldest_locked(cache);
        }
        entry->next = cache->first;
        cache->first = entry;
        cache->n++;
        entry->users++;
    }
    pthread_mutex_unlock(&cache->lock);
    if (!entry) {
        return NULL;
    }
    pthread_mutex_lock(&entry->lock);
    return &entry->cached;
}

void ipam_cache_leave(struct ipam_cache *cache, struct cached *cached)
{
    struct entry *entry = (struct entry *)cached; /* its first member */

    pthread_mutex_unlock(&entry->lock);
    pthread_mutex_lock(&cache->lock);
    entry->users--;
    pthread_mutex_unlock(&cache->lock);
}
