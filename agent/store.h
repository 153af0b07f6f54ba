/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: everything durable, compare-and-set where two could write (design 7). This is the only
 * way to it, so that another backend can take its place; the file backend is store*.c. Calls
 * run on the thread pool (fsync takes its time) and are durable when they return. Private keys are
 * touched through acme/keys.h only.
 */
#pragma once

#include "acme/cert.h"
#include "acme/keys.h"
#include "base/fiber.h"
#include "base/file.h"
#include "base/json.h"
#include "base/world.h"

#define STORE_NODES_MAX 32

/* What decides "when next" (lineages/<host>/state.json). Zero-initialised is "nothing known". */
struct store_deployed {
    char *node;
    uint64_t generation; /* newest one proved on this node */
    struct wall since;
};
struct host_state {
    uint64_t version;       /* for compare-and-set; 0: not stored yet */
    unsigned attempts;      /* failed ones that cost the CA something, since the last success */
    struct wall next_try;   /* when the agent tries again; ms == 0: at once */
    struct wall renew_from; /* `renew` waits only so long: for what cost the CA something */
    struct wall not_before; /* the CA's Retry-After, which holds everybody */
    struct wall first_seen; /* when the host appeared */
    struct wall incomplete_since; /* some wanted name is not ready since; ms == 0: all are */
    struct wall last_growth;      /* last order that only added names */
    struct wall last_issued;
    char *error_kind; /* of the last failure, or NULL */
    char *error_text;
    char *error_advice;
    struct wall error_since; /* the same kind of failure since */
    unsigned deploy_attempts;
    struct wall next_deploy;
    char *deploy_error;
    size_t n_deployed;
    struct store_deployed deployed[STORE_NODES_MAX];
};
void host_state_done(struct host_state *state);

/* lineages/<host>/pending */
struct store_pending {
    bool exists;
    char *order_url; /* NULL: newOrder may have been sent, no answer was stored */
    char *directory; /* of which CA */
    struct name_list names;
    struct wall made;
};
void store_pending_done(struct store_pending *pending);

/* lineages/<host>/<n> */
struct store_generation {
    uint64_t number; /* 0: there is none */
    struct cert_info cert;
    char *directory; /* CA it came from */
    bool staging;
    struct wall made;
};
void store_generation_done(struct store_generation *generation);

struct store;
struct store_options {
    const char *state_dir, *cert_dir;
    bool read_only; /* plan, status, hosts: nothing is made or changed */
};
/* Makes the directories with the modes of design 7, refuses loose ones: ERR_CONFIG with the fix. */
struct err *store_open(struct world *world, const struct store_options *options, struct store **ret)
        MAY_SUSPEND NODISCARD;
void store_close(struct store *store);
DEFINE_FREEP(struct store, store_close)
/* The lock of whoever acts; *ret_holder != 0: held by that process. Once it is ours, what a crash
 * left under temporary names is swept away. */
struct err *store_lock(struct store *store, bool *ret_locked, pid_t *ret_holder)
        MAY_SUSPEND NODISCARD;
/* Can a certificate be stored at all? write + fsync + rename in state_dir and cert_dir, before
 * anything is ordered. */
struct err *store_check_writable(struct store *store) MAY_SUSPEND NODISCARD;

/* A state file that is damaged is kept as state.json.bad-<time>, a warning is logged, and *ret is
 * empty. */
struct err *store_state_load(struct store *store, const struct name *host, struct host_state *ret)
        MAY_SUSPEND NODISCARD;
/* *ret_stored false: somebody else changed it since it was loaded. */
struct err *store_state_save(struct store *store, const struct name *host, struct host_state *state,
        bool *ret_stored) MAY_SUSPEND NODISCARD;

struct err *store_pending_load(struct store *store, const struct name *host,
        struct store_pending *ret) MAY_SUSPEND NODISCARD;
struct err *store_pending_save(struct store *store, const struct name *host,
        const struct store_pending *pending) MAY_SUSPEND NODISCARD;
/* The key of the pending order: opened (whatever its type), or made and durable. */
struct err *store_pending_key(struct store *store, const struct name *host, enum key_type type,
        struct key **ret) MAY_SUSPEND NODISCARD;
/* Forgets the order (keeps nothing). */
struct err *store_pending_drop(struct store *store, const struct name *host) MAY_SUSPEND NODISCARD;

/* Makes the pending key and this chain a generation: checked (key matches, form), written, fsynced,
 * then pending is dropped and old generations beyond three are removed (never the newest good one).
 */
struct err *store_generation_commit(struct store *store, const struct name *host,
        const char *chain_pem, size_t len, const char *directory, bool staging,
        struct store_generation *ret) MAY_SUSPEND NODISCARD;
/* The newest complete one whose manifest agrees with its files; damaged ones are skipped with a
 * warning. */
struct err *store_generation_newest(struct store *store, const struct name *host,
        struct store_generation *ret) MAY_SUSPEND NODISCARD;

/* <cert_dir>/<host>.pem */
enum store_live { STORE_LIVE_NONE, STORE_LIVE_GOOD, STORE_LIVE_DAMAGED };
struct err *store_live_load(struct store *store, const struct name *host,
        enum store_live *ret_state, struct cert_info *ret, char **ret_why) MAY_SUSPEND NODISCARD;
struct store_install {
    const struct name_list *wanted; /* of the host set, for "worse" */
    const char *roots;              /* trust for "worse"; NULL: system store */
    bool allow_earlier_expiry; /* CA, profile, ARI or --force asked for it, or the live one is due;
                                  an earlier generation of ours gives way in any case */
    struct wall now;
};
enum store_installed { STORE_INSTALLED, STORE_ALREADY_THERE, STORE_WORSE };
/* Derives the live file from the generation, by the rules of design 7 ("worse" keeps the live one;
 * *ret_why says why). The replaced file is kept as lineages/<host>/previous.pem for
 * store_live_roll_back(). ERR_CONFIG where ejabberd could read the live file and not the new one
 * (cert_dir without setgid). */
struct err *store_live_install(struct store *store, const struct name *host, uint64_t generation,
        const struct store_install *install, enum store_installed *ret, char **ret_why)
        MAY_SUSPEND NODISCARD;
/* Puts previous.pem back with a newer mtime. ERR_LOCAL if there is none. */
struct err *store_live_roll_back(struct store *store, const struct name *host)
        MAY_SUSPEND NODISCARD;

/* All lineages on disk, sorted. */
struct err *store_hosts(struct store *store, struct name_list *ret) MAY_SUSPEND NODISCARD;
/* Paths of others that live in the state directory; owned. */
ATTR_MALLOC char *store_path(const struct store *store, const char *relative);
