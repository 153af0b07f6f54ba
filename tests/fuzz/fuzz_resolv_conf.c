/* SPDX-License-Identifier: Apache-2.0 */
#include "dns/resolv_conf.h"
#include "tests/fuzz/fuzz.h"

#define MAX 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = mem_dup(data, len);
    AUTO_BUF struct buf again = BUF_INIT(4096);
    struct addr found[MAX], second[MAX];
    size_t n = dns_resolv_conf_parse(text, found, MAX);
    assert(n <= MAX);
    for (size_t i = 0; i < n; i++) {
        char ip[ADDR_TEXT_MAX];
        assert(addr_port(&found[i]) != 0);
        buf_printf(&again, "# %zu\nnameserver\t%s\n", i, addr_format(&found[i], ip));
    }
    assert(dns_resolv_conf_parse(buf_str(&again), second, MAX) == n);
    for (size_t i = 0; i < n; i++)
        assert(addr_equal_ip(&found[i], &second[i]) &&
                addr_port(&found[i]) == addr_port(&second[i]));
    return 0;
}
