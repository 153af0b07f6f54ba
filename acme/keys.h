/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation on a private key, account or certificate. Nothing else in the program opens a key
 * file, so that this header can later become the door to a process of its own: callers hold an
 * opaque handle and see only results. Files are PKCS#8 PEM, mode 0600. Everything here is CPU or
 * disk work: call key_create() and key_open() through fiber_work().
 */
#pragma once

#include "base/buf.h"
#include "base/name.h"

enum key_type { KEY_P256, KEY_P384, KEY_RSA2048, KEY_RSA3072, KEY_RSA4096, KEY_TYPE_MAX };
const char *key_type_name(enum key_type type); /* "p256", "p384", "rsa2048", … */
bool key_type_parse(const char *name, enum key_type *ret);

struct key;

/* Makes a key and writes it durably (fsync of file and directory) before it returns. An existing
 * file is an error. */
struct err *key_create(const char *path, enum key_type type, struct key **ret) NODISCARD;
/* ERR_CONFIG if it can't be read, has loose modes, a password, or a type that neither CAs nor
 * ejabberd take. */
struct err *key_open(const char *path, struct key **ret) NODISCARD;
void key_free(struct key *key);
DEFINE_FREEP(struct key, key_free)
enum key_type key_type(const struct key *key);

/* RFC 7638, base64url, for key authorizations. */
#define KEY_THUMBPRINT_MAX 44
struct err *key_thumbprint(const struct key *key, char ret[KEY_THUMBPRINT_MAX]) NODISCARD;

struct key_jws {
    const char *url;
    const char *nonce;   /* NULL: none (inner JWS) */
    const char *kid;     /* account URL; NULL: the public key is embedded as "jwk" */
    const char *payload; /* JSON text; NULL: "" (POST-as-GET); "{}" is an empty object */
};
/* Flattened JSON serialisation (RFC 8555 6.2); ES256, ES384 or RS256 by the key's type. */
struct err *key_sign_jws(const struct key *key, const struct key_jws *jws, char **ret_json)
        NODISCARD;

/* PKCS#10 with a subject without CN and one SAN dNSName per name, DER as base64url (RFC 8555 7.4).
 */
struct err *key_make_csr(const struct key *key, const struct name_list *names, char **ret_base64url)
        NODISCARD;
/* Of the file's bytes, to find damage without making sense of them. As key_open() refuses. */
struct err *key_file_sha256(const char *path, uint8_t ret[32]) NODISCARD;
/* Is this the key of the first certificate of the chain? ERR_PROTOCOL if not. */
struct err *key_check_matches(const struct key *key, const char *chain_pem, size_t len) NODISCARD;
/* leaf, chain, key in one text: all that ejabberd reads. ret wipes itself (BUF_INIT_SECRET). */
struct err *key_join_chain(
        const struct key *key, const char *chain_pem, size_t len, struct buf *ret) NODISCARD;
/* For a file that is already joined (the live one): does the key in it belong to its leaf? */
struct err *key_check_joined(const char *pem, size_t len) NODISCARD;
