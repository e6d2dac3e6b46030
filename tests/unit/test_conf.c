/* SPDX-License-Identifier: Apache-2.0 */
/* httpd's configuration as the tool reads it. */
#include "ctl/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static apr_pool_t *pool;
static char folder[] = "/tmp/iscep-conf-XXXXXX";

static const char *in_folder(const char *name)
{
    return apr_pstrcat(pool, folder, "/", name, NULL);
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static conf_t *read_good(const char *text)
{
    conf_t *conf = NULL;
    const char *message = NULL;
    write_file("httpd.conf", text);
    if (conf_read(&conf, in_folder("httpd.conf"), NULL, pool, &message)) {
        fail_msg("%s", message);
    }
    return conf;
}

static void expect_wrong(const char *text, const char *words)
{
    conf_t *conf = NULL;
    const char *message = NULL;
    write_file("httpd.conf", text);
    if (!conf_read(&conf, in_folder("httpd.conf"), NULL, pool, &message)) {
        fail_msg("'%s' was taken", text);
    }
    if (!strstr(message, words)) {
        fail_msg("'%s' lacks '%s'", message, words);
    }
}

static const conf_location_t *location(const conf_t *conf, int i)
{
    assert_true(i < conf->locations->nelts);
    return APR_ARRAY_IDX(conf->locations, i, const conf_location_t *);
}

static const char *value(const conf_t *conf, int i, setting_id_t id)
{
    const char *text = setting_text(location(conf, i)->settings, id);
    return text ? text : "(none)";
}

#define ON(words) "<Location /scep>\nIntuneScep On\n" words "\n</Location>\n"

/* What stands between the quotes, and what it means. */
static void words_are_httpds(void **state)
{
    static const struct {
        const char *name;
        const char *line;
        const char *wanted;
    } CASES[] = {
        {"plain", "IntuneScepProvider me", "me"},
        {"letter case", "intunescepPROVIDER me", "me"},
        {"double quotes", "IntuneScepProvider \"me and you\"", "me and you"},
        {"single quotes", "IntuneScepProvider 'me \"and\" you'", "me \"and\" you"},
        {"an escaped quote", "IntuneScepProvider \"me \\\"and\\\" you\"", "me \"and\" you"},
        {"a doubled backslash", "IntuneScepProvider \"a\\\\b\"", "a\\b"},
        {"another backslash", "IntuneScepProvider \"a\\b\"", "a\\b"},
        {"blanks around", " \t IntuneScepProvider \t me \t", "me"},
        {"a line that goes on", "IntuneScepProvider \\\n me", "me"},
        {"a word that goes on", "IntuneScepProvider m\\\ne", "me"},
        {"a line of DOS", "IntuneScepProvider me\r", "me"},
        {"a variable", "IntuneScepProvider ${WHO}", "who it is"},
        {"a variable within", "IntuneScepProvider a${WHO}b", "awho it isb"},
        {"a variable of the environment", "IntuneScepProvider ${ISCEP_TEST_CONF}", "from outside"},
        {"an unknown variable", "IntuneScepProvider ${NOBODY}", "${NOBODY}"},
        {"a variable without a value", "IntuneScepProvider ${EMPTY}", "${EMPTY}"},
        {"an open variable", "IntuneScepProvider ${WHO", "${WHO"},
        {"a comment", "#IntuneScepProvider x\nIntuneScepProvider me", "me"},
        {"a comment that goes on", "# a \\\nIntuneScepProvider x", "mod_intune_scep " ISCEP_VERSION},
    };
    (void)state;
    setenv("ISCEP_TEST_CONF", "from outside", 1);
    for (unsigned i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        const char *text = apr_pstrcat(pool, "Define WHO \"who it is\"\nDefine EMPTY\n",
                                       "<Location /scep>\nIntuneScep On\n", CASES[i].line, "\n</Location>\n", NULL);
        conf_t *conf = read_good(text);
        print_message("%s: %s\n", CASES[i].name, value(conf, 0, SETTING_PROVIDER));
        assert_int_equal(conf->faults->nelts, 0);
        assert_string_equal(value(conf, 0, SETTING_PROVIDER), CASES[i].wanted);
    }
}

static void conditions_hold_or_not(void **state)
{
    static const struct {
        const char *condition;
        bool holds;
    } CASES[] = {
        {"IfDefine THERE", true},
        {"IfDefine !THERE", false},
        {"IfDefine NOT", false},
        {"IfDefine !NOT", true},
        {"IfModule ssl_module", true},
        {"IfModule mod_ssl.c", true},
        {"IfModule !mod_ssl.c", false},
        {"IfModule mod_x.c", false},
        {"IfModule mpm_event_module", true},
        {"IfModule event.c", true},
        {"IfModule watchdog_module", true},
        {"IfVersion >= 2.4", true},
        {"IfVersion 2.4", false},
        {"IfVersion /^2/", true},
        {"IfVersion >= 2.4.30", true},
        {"IfVersion < 2.4.30", false},
        {"IfVersion < 2.4", false},
        {"IfVersion > 2.4", true},
        {"IfVersion <= 2.4", false},
        {"IfVersion = 2.4", false},
        {"IfVersion == 2.4.62", false},
        {"IfVersion != 2.4", true},
        {"IfVersion = 2", false},
        {"IfVersion > 2", true},
        {"IfVersion <= 2.5", true},
        {"IfVersion > 2.5", false},
        {"IfVersion !< 2.4", true},
        {"IfVersion >= 2.6", false},
        {"IfVersion < 3", true},
        {"IfVersion = 2.2", false},
        {"IfVersion ~ ^2", true},
        {"IfDirective IntuneScep", true},
        {"IfDirective !IntuneScep", false},
        {"IfDirective SSLEngine", true},
        {"IfSection Location", true},
        {"IfSection !Location", false},
        {"IfFile httpd.conf", true},
        {"IfFile \"nothing\"", false},
        {"IfFile !nothing", true},
        {"Directory /", false},
        {"Files x", false},
        {"If \"true\"", false},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        const char *name = apr_pstrmemdup(pool, CASES[i].condition, strcspn(CASES[i].condition, " "));
        conf_t *conf =
            read_good(apr_pstrcat(pool, "Define THERE\nLoadModule ssl_module a.so\nLoadModule intune_scep_module c.so\n"
                                  "LoadModule mpm_event_module b.so\n<",
                                  CASES[i].condition, ">\n", ON(""), "</", name, ">\n", NULL));
        print_message("%s\n", CASES[i].condition);
        assert_int_equal(conf->locations->nelts, CASES[i].holds);
    }
    assert_int_equal(
        read_good("<IfDefine NOT>\n<IfDefine !NOT>\n" ON("") "</IfDefine>\n</IfDefine>\n")->locations->nelts, 0);
    assert_int_equal(read_good("LoadModule ssl_module a.so\n<IfDirective IntuneScep>\n" ON("") "</IfDirective>\n")
                         ->locations->nelts,
                     0);
    assert_int_equal(read_good("Define A\nUnDefine A\n<IfDefine A>\n" ON("") "</IfDefine>\n")->locations->nelts, 0);
}

static void sections_merge(void **state)
{
    conf_t *conf = read_good("ServerName main.example\nIntuneScepTenant outer\nIntuneScepAppKey file:/k\n"
                             "<Location \"/scep\">\nIntuneScep On\nIntuneScepAppID a\n</Location>\n"
                             "<Location /scep/inner>\nIntuneScepTenant inner\nIntuneScepAppTokenFile /t\n</Location>\n"
                             "<Location /other>\nIntuneScepTenant other\n</Location>\n");
    (void)state;
    assert_int_equal(conf->locations->nelts, 2);
    assert_string_equal(location(conf, 0)->name, "main.example/scep");
    assert_string_equal(value(conf, 0, SETTING_TENANT), "outer");
    assert_string_equal(value(conf, 1, SETTING_TENANT), "inner");
    assert_string_equal(value(conf, 1, SETTING_APP_ID), "a");
    /* a section's own credential takes the place of the server's */
    assert_string_equal(value(conf, 1, SETTING_APP_KEY), "(none)");
    assert_string_equal(value(conf, 1, SETTING_APP_TOKEN_FILE), "/t");
}

static void virtual_hosts_inherit(void **state)
{
    conf_t *conf = read_good("IntuneScepTenant outer\nSSLProxyVerify none\n"
                             "<VirtualHost *:443>\nServerName a.example\nIntuneScepTenant a\nSSLProxyVerify require\n"
                             "SSLProxyCACertificateFile ca.pem\n" ON(
                                 "IntuneScepName first") "</VirtualHost>\n"
                                                         "<VirtualHost *:443>\nServerName b.example\nIntuneScep "
                                                         "On\nIntuneScepName second\n</VirtualHost>\n");
    (void)state;
    assert_int_equal(conf->locations->nelts, 2);
    assert_string_equal(location(conf, 0)->name, "first");
    assert_string_equal(value(conf, 0, SETTING_TENANT), "a");
    assert_true(location(conf, 0)->tls.verified);
    assert_string_equal(location(conf, 0)->tls.ca_file, in_folder("ca.pem"));
    assert_string_equal(location(conf, 1)->path, "/");
    assert_string_equal(value(conf, 1, SETTING_TENANT), "outer");
    assert_false(location(conf, 1)->tls.verified);
    assert_true(location(read_good("SSLProxyVerify \"On\"\n" ON("")), 0)->tls.verified);
}

/* Seen again in each virtual host, and one all the same. */
static void a_section_of_the_main_server_is_one(void **state)
{
    (void)state;
    assert_int_equal(
        read_good(ON("") "<VirtualHost *:1>\n</VirtualHost>\n<VirtualHost *:2>\n</VirtualHost>\n")->locations->nelts,
        1);
    assert_int_equal(read_good(ON("") "<VirtualHost *:1>\nIntuneScepTenant x\n</VirtualHost>\n")->locations->nelts, 2);
}

static void a_balancer_has_a_first_member(void **state)
{
    conf_t *conf = read_good(
        "<Proxy balancer://cas>\nBalancerMember http://ca1:80/ loadfactor=1\nBalancerMember http://ca2/\n</Proxy>\n" ON(
            "IntuneScepBackend balancer://cas/scep"));
    (void)state;
    assert_true(location(conf, 0)->balanced);
    assert_string_equal(location(conf, 0)->backend, "http://ca1:80/scep");
    conf = read_good("BalancerMember balancer://cas http://ca9\n" ON("IntuneScepBackend balancer://cas/scep"));
    assert_string_equal(location(conf, 0)->backend, "http://ca9/scep");
    conf = read_good(ON("IntuneScepBackend balancer://cas/scep"));
    assert_null(location(conf, 0)->backend);
    conf = read_good(ON("IntuneScepBackend http://ca/scep"));
    assert_false(location(conf, 0)->balanced);
    assert_string_equal(location(conf, 0)->backend, "http://ca/scep");
}

static void files_include_others(void **state)
{
    (void)state;
    mkdir(in_folder("sites"), 0700);
    mkdir(in_folder("sites/deep"), 0700);
    write_file("sites/b.conf", "IntuneScepTenant b\n");
    write_file("sites/a.conf", "IntuneScepTenant a\nIntuneScepAppID of-a\n");
    write_file("sites/deep/c.conf", "IntuneScepAppID c\n");
    write_file("sites/.hidden.conf", "IntuneScepTenant hidden\n");
    conf_t *conf = read_good(ON("Include sites/*.conf"));
    assert_string_equal(value(conf, 0, SETTING_TENANT), "b");
    assert_string_equal(value(conf, 0, SETTING_APP_ID), "of-a");
    assert_string_equal(value(read_good(ON("Include sites/*/*.conf")), 0, SETTING_APP_ID), "c");
    assert_string_equal(value(read_good(ON("IncludeOptional sites/*.none")), 0, SETTING_TENANT), "(none)");
    assert_string_equal(value(read_good(ON("IncludeOptional nothing.conf")), 0, SETTING_TENANT), "(none)");
    assert_string_equal(
        value(read_good(apr_pstrcat(pool, "ServerRoot \"", folder, "/sites\"\n", ON("Include a.conf"), NULL)), 0,
              SETTING_TENANT),
        "a");
    expect_wrong(ON("Include sites/*.none"), "httpd.conf line 3: there is nothing to include at /tmp");
    expect_wrong(ON("Include nothing.conf"), "nothing to include");
    expect_wrong("Include httpd.conf\n", "too deep");
    write_file("sites/open.conf", "<Location /x>\n");
    expect_wrong("Include sites/open.conf\n", "open.conf line 1: <Location> is not closed");
    unlink(in_folder("sites/open.conf"));
    write_file("sites/close.conf", "</Location>\n");
    expect_wrong("<Location /x>\nInclude sites/close.conf\n", "close.conf line 1: </Location> closes no section");
    unlink(in_folder("sites/close.conf"));
}

static void paths_are_below_the_root(void **state)
{
    conf_t *conf = read_good(ON("IntuneScepRAKey keys/ra.key"));
    (void)state;
    assert_string_equal(value(conf, 0, SETTING_RA_KEY), in_folder("keys/ra.key"));
    conf = read_good("ServerRoot /srv\n" ON("IntuneScepRAKey keys/ra.key"));
    assert_string_equal(value(conf, 0, SETTING_RA_KEY), "/srv/keys/ra.key");
    assert_string_equal(conf->root, "/srv");
}

static void wrong_values_are_faults(void **state)
{
    conf_t *conf = read_good(ON("IntuneScepTenant a/b\nIntuneScepXyz 1\nIntuneScepStateDir /x\nIntuneScepCloud mars"));
    (void)state;
    assert_int_equal(conf->faults->nelts, 4);
    assert_non_null(
        strstr(APR_ARRAY_IDX(conf->faults, 0, const char *), "httpd.conf line 3): IntuneScepTenant must hold"));
    assert_non_null(strstr(APR_ARRAY_IDX(conf->faults, 1, const char *), "there is no such directive"));
    assert_non_null(strstr(APR_ARRAY_IDX(conf->faults, 2, const char *), "no place in a virtual host or section"));
}

static void expect_fault(const char *text, const char *words)
{
    const conf_t *conf = read_good(text);
    print_message("%s", text);
    assert_int_equal(conf->faults->nelts, 1);
    if (!strstr(APR_ARRAY_IDX(conf->faults, 0, const char *), words)) {
        fail_msg("'%s' lacks '%s'", APR_ARRAY_IDX(conf->faults, 0, const char *), words);
    }
}

/* As httpd refuses them. */
static void places_are_httpds(void **state)
{
    static const char *const PARTS[] = {"Directory /", "Files x", "If \"true\"", "Proxy http://x/", "ProxyMatch x",
                                        "Limit GET",   "LimitExcept GET"};
    (void)state;
    for (unsigned i = 0; i < sizeof(PARTS) / sizeof(PARTS[0]); i++) {
        const char *name = apr_pstrmemdup(pool, PARTS[i], strcspn(PARTS[i], " "));
        const char *part = apr_pstrcat(pool, "<", PARTS[i], ">\nIntuneScepTimeout 5\n</", name, ">\n", NULL);
        const char *words = apr_pstrcat(pool, "no place in <", name, ">", NULL);
        expect_fault(apr_pstrcat(pool, ON(""), part, NULL), words);
        expect_fault(apr_pstrcat(pool, "<Location /x>\n", part, "</Location>\n", NULL), words);
    }
    expect_fault("<Location /x>\n<Location /x/y>\n</Location>\n</Location>\n",
                 "line 2): it cannot be within <Location>");
    expect_fault("<VirtualHost *:1>\n<VirtualHost *:2>\n</VirtualHost>\n" ON("") "</VirtualHost>\n",
                 "it cannot be within <VirtualHost>");
    expect_fault("<VirtualHost>\n</VirtualHost>\n", "an address is missing");
    expect_fault("<Location>\n</Location>\n", "it takes one path");
    expect_fault("<Location /a /b>\n</Location>\n", "it takes one path");
    /* what comes behind them is where it was */
    const conf_t *conf = read_good("<VirtualHost *:1>\nServerName x\n<Directory />\n<Limit GET>\n</Limit>\n"
                                   "</Directory>\n<Location /scep>\n<RequireAll>\nRequire x\n</RequireAll>\n"
                                   "<Limit GET>\n</Limit>\nIntuneScep On\n</Location>\nIntuneScepTenant t\n"
                                   "</VirtualHost>\n");
    assert_int_equal(conf->faults->nelts, 0);
    assert_string_equal(location(conf, 0)->name, "x/scep");
    assert_string_equal(value(conf, 0, SETTING_TENANT), "t");
}

static void names_are_httpds(void **state)
{
    static const struct {
        const char *text;
        const char *name;
    } CASES[] = {
        {"ServerName m:9\n" ON(""), "m/scep"},
        {"ServerName m:9\n<VirtualHost *:443>\n" ON("") "</VirtualHost>\n", "m:443/scep"},
        {"ServerName m:9\n<VirtualHost *>\n" ON("") "</VirtualHost>\n", "m/scep"},
        {"<VirtualHost *:443>\nServerName a\n" ON("") "</VirtualHost>\n", "a/scep"},
        {"<VirtualHost *:443>\nServerName https://a:8443\n" ON("") "</VirtualHost>\n", "a:8443/scep"},
        {"<VirtualHost [::1]:443>\n" ON("") "</VirtualHost>\n", "localhost:443/scep"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        assert_string_equal(location(read_good(CASES[i].text), 0)->name, CASES[i].name);
    }
    expect_fault(ON("") "<VirtualHost *>\n" ON("") "</VirtualHost>\n", "the name \"localhost/scep\" is taken");
    expect_fault(ON("IntuneScepName a") "<Location /b>\nIntuneScep On\nIntuneScepName a\n</Location>\n",
                 "IntuneScepName (");
}

static void sections_of_one_path_are_one(void **state)
{
    const conf_t *conf = read_good(ON("IntuneScepName a\nIntuneScepTimeout 6") "<Location /b>\nIntuneScepTimeout 8\n</Location>\n"
                                   "<Location /scep>\nIntuneScepTimeout 7\n</Location>\n");
    (void)state;
    assert_int_equal(conf->faults->nelts, 0);
    assert_int_equal(conf->locations->nelts, 1);
    assert_string_equal(location(conf, 0)->name, "a");
    assert_string_equal(value(conf, 0, SETTING_TIMEOUT), "7");
    /* an expression is no path, whatever its text */
    static const char *const MATCHES[] = {"LocationMatch /scep", "Location ~ /scep"};
    for (int i = 0; i < 2; i++) {
        conf = read_good(apr_psprintf(pool, ON("IntuneScepName a") "<%s>\nIntuneScepName b\n</%.*s>\n", MATCHES[i],
                                      (int)strcspn(MATCHES[i], " "), MATCHES[i]));
        assert_int_equal(conf->locations->nelts, 2);
        assert_string_equal(location(conf, 0)->name, "a");
        assert_string_equal(location(conf, 1)->name, "b");
    }
}

static void the_server_is_known(void **state)
{
    const conf_t *conf = read_good("LoadModule intune_scep_module x.so\nUser me\nGroup us\nUse it\n"
                                   "<VirtualHost *:1>\nSSLProxyEngine On\n" ON("") "</VirtualHost>\n");
    (void)state;
    assert_string_equal(conf->user, "me");
    assert_string_equal(conf->group, "us");
    assert_true(conf->macros);
    assert_true(location(conf, 0)->tls.engine_on);
    assert_non_null(conf->modules);
    expect_fault("LoadModule ssl_module x.so\n" ON(""), "there is no LoadModule intune_scep_module");
    /* a part of a configuration */
    assert_null(read_good(ON(""))->modules);
}

/* httpd takes as many as there are. */
static void words_are_many(void **state)
{
    (void)state;
    expect_fault(ON("IntuneScepDeviceAlgorithms AES AES AES AES AES AES AES AES AES AES AES AES AES AES AES AES AES X"),
                 "\"X\" is none of");
}

static void what_is_no_configuration_is_said(void **state)
{
    (void)state;
    expect_wrong("</Location>\n", "line 1: </Location> closes no section");
    expect_wrong("<Location /x>\n</VirtualHost>\n", "line 2: </VirtualHost> closes no section");
    expect_wrong("<Location /x\n", "<Location has no >");
    expect_wrong("<Location /x>\n</Location\n", "line 2: </Location has no >");
    expect_wrong("<Location /x>\n</Location >\n", "</Location has no >");
    expect_wrong("\xEF\xBB\xBF# comment\n", "line 1: the file begins with a byte order mark");
    expect_wrong("Define\n", "line 1: Define takes");
    expect_wrong("Define A b c\n", "Define takes");
    expect_wrong("Define A:b c\n", "Define takes");
    expect_wrong("Include a b\n", "Include takes one");
    const char *growing = "Define A aaaa\n";
    for (int i = 0; i < 40; i++) {
        growing = apr_pstrcat(pool, growing, "Define A ${A}${A}\n", NULL);
    }
    expect_wrong(growing, "line 13: the value of A is too long");
    conf_t *conf = NULL;
    const char *message = NULL;
    assert_int_not_equal(conf_read(&conf, in_folder("missing.conf"), NULL, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "missing.conf cannot be read"));
    assert_null(strstr(message, "line 0"));
    assert_int_not_equal(conf_read(&conf, folder, NULL, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "not a file of usual size"));
    FILE *file = fopen(in_folder("binary.conf"), "w");
    assert_non_null(file);
    fwrite("a\0b\n", 1, 4, file);
    fclose(file);
    assert_int_not_equal(conf_read(&conf, in_folder("binary.conf"), NULL, pool, &message), APR_SUCCESS);
    assert_non_null(strstr(message, "is no text"));
}

/* Whatever is cut off or changed in it, it is read or refused. */
static void mutants_are_harmless(void **state)
{
    static const char GOOD[] =
        "Define A \"b c\"\n<IfModule mod_ssl.c>\n</IfModule>\n<VirtualHost *:1>\nServerName x\n<Location \"/scep\">\n"
        "IntuneScep On\nIntuneScepTenant \"${A}\"\\\n x\n</Location>\n</VirtualHost>\n";
    unsigned seed = 1;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        apr_pool_t *scratch = NULL;
        conf_t *conf = NULL;
        const char *message = NULL;
        char *text = apr_pstrdup(pool, GOOD);
        for (int j = 0; j < 3; j++) {
            seed = seed * 1103515245u + 12345u;
            text[(seed >> 8) % (sizeof(GOOD) - 1)] = "<>\"'\\\n${} /x"[(seed >> 20) % 12];
        }
        write_file("httpd.conf", text);
        apr_pool_create(&scratch, pool);
        apr_status_t rv = conf_read(&conf, in_folder("httpd.conf"), NULL, scratch, &message);
        assert_int_equal(rv != APR_SUCCESS, message != NULL);
        apr_pool_destroy(scratch);
    }
}

static int begin(void **state)
{
    (void)state;
    return apr_pool_create(&pool, NULL) || !mkdtemp(folder);
}

static int end(void **state)
{
    (void)state;
    int rv = system(apr_pstrcat(pool, "rm -rf ", folder, NULL));
    apr_pool_destroy(pool);
    return rv;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_httpds),
        cmocka_unit_test(conditions_hold_or_not),
        cmocka_unit_test(sections_merge),
        cmocka_unit_test(virtual_hosts_inherit),
        cmocka_unit_test(a_section_of_the_main_server_is_one),
        cmocka_unit_test(a_balancer_has_a_first_member),
        cmocka_unit_test(files_include_others),
        cmocka_unit_test(paths_are_below_the_root),
        cmocka_unit_test(wrong_values_are_faults),
        cmocka_unit_test(places_are_httpds),
        cmocka_unit_test(names_are_httpds),
        cmocka_unit_test(sections_of_one_path_are_one),
        cmocka_unit_test(the_server_is_known),
        cmocka_unit_test(words_are_many),
        cmocka_unit_test(what_is_no_configuration_is_said),
        cmocka_unit_test(mutants_are_harmless),
    };
    apr_initialize();
    int failed = cmocka_run_group_tests(tests, begin, end);
    apr_terminate();
    return failed;
}
