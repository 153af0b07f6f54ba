/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account at a CA (RFC 8555 7.3): <dir>/key.pem and <dir>/account.json. Found by its key, made
 * if the CA does not know it, made again with the same key if the CA has forgotten it.
 */
#pragma once

#include "acme/client.h"

struct acme_account_options {
    const char *dir;        /* <state_dir>/accounts/<ca>; made with 0700 if missing */
    const char *email;      /* or NULL */
    enum key_type key_type; /* for a new account key; P-256 unless said otherwise */
};

struct acme_account;
/* Loads or makes the key, loads account.json; asks the CA (newAccount) only if there is no stored
 * URL. Sets the client's account. */
struct err *acme_account_open(struct acme_client *client,
        const struct acme_account_options *options, struct acme_account **ret)
        MAY_SUSPEND NODISCARD;
/* After accountDoesNotExist: newAccount with the same key, once a day; the old account.json is kept
 * as account.json.<n>. ERR_DENIED the second time. */
struct err *acme_account_recreate(struct acme_account *account) MAY_SUSPEND NODISCARD;
/* How often it was made again: a flow compares before and after a request that was refused, since
 * another flow may have recreated the account meanwhile. */
unsigned acme_account_generation(const struct acme_account *account);
const char *acme_account_url(const struct acme_account *account);
void acme_account_free(struct acme_account *account); /* the client must not be used afterwards */
DEFINE_FREEP(struct acme_account, acme_account_free)
