# SPDX-License-Identifier: Apache-2.0
# The one list of sources. The core is one library, used by the module, the tests and the tools; only httpd/ knows httpd.
core_sources = \
	mod_intune_scep/base/clock.c \
	mod_intune_scep/base/command.c \
	mod_intune_scep/base/event.c \
	mod_intune_scep/base/fault.c \
	mod_intune_scep/base/http.c \
	mod_intune_scep/base/http_failure.c \
	mod_intune_scep/base/http_kept.c \
	mod_intune_scep/base/http_settings.c \
	mod_intune_scep/base/json.c \
	mod_intune_scep/base/log.c \
	mod_intune_scep/base/repeats.c \
	mod_intune_scep/base/result.c \
	mod_intune_scep/base/seal.c \
	mod_intune_scep/base/secret.c \
	mod_intune_scep/base/secret_file.c \
	mod_intune_scep/base/secret_source.c \
	mod_intune_scep/base/seqlock.c \
	mod_intune_scep/base/state_key.c \
	mod_intune_scep/base/text.c \
	mod_intune_scep/base/writer.c \
	mod_intune_scep/scep/answer_open.c \
	mod_intune_scep/scep/certificate.c \
	mod_intune_scep/scep/client_ca.c \
	mod_intune_scep/scep/client_make.c \
	mod_intune_scep/scep/crl.c \
	mod_intune_scep/scep/csr.c \
	mod_intune_scep/scep/engine.c \
	mod_intune_scep/scep/engine_provider.c \
	mod_intune_scep/scep/http_side.c \
	mod_intune_scep/scep/identity.c \
	mod_intune_scep/scep/inquiry.c \
	mod_intune_scep/scep/message_attributes.c \
	mod_intune_scep/scep/message_build.c \
	mod_intune_scep/scep/message_cms.c \
	mod_intune_scep/scep/message_open.c \
	mod_intune_scep/scep/poll.c \
	mod_intune_scep/scep/public_key.c \
	mod_intune_scep/scep/ra_advice.c \
	mod_intune_scep/scep/view.c \
	mod_intune_scep/scep/view_objects.c \
	mod_intune_scep/intune/app_certificate.c \
	mod_intune_scep/intune/assertion.c \
	mod_intune_scep/intune/breaker.c \
	mod_intune_scep/intune/codes.c \
	mod_intune_scep/intune/credential.c \
	mod_intune_scep/intune/exchange.c \
	mod_intune_scep/intune/flight.c \
	mod_intune_scep/intune/intune.c \
	mod_intune_scep/intune/json_keys.c \
	mod_intune_scep/intune/location.c \
	mod_intune_scep/intune/probe.c \
	mod_intune_scep/intune/renew.c \
	mod_intune_scep/intune/report.c \
	mod_intune_scep/intune/retry.c \
	mod_intune_scep/intune/service.c \
	mod_intune_scep/intune/token.c \
	mod_intune_scep/intune/trace.c \
	mod_intune_scep/intune/validate.c \
	mod_intune_scep/store/aside_provider.c \
	mod_intune_scep/store/counters.c \
	mod_intune_scep/store/database.c \
	mod_intune_scep/store/database_connection.c \
	mod_intune_scep/store/group.c \
	mod_intune_scep/store/journal.c \
	mod_intune_scep/store/journal_operator.c \
	mod_intune_scep/store/journal_row.c \
	mod_intune_scep/store/journal_schema.c \
	mod_intune_scep/store/memory_provider.c \
	mod_intune_scep/store/sealed_provider.c \
	mod_intune_scep/store/shared_cache.c \
	mod_intune_scep/store/tiered_cache.c \
	mod_intune_scep/store/turn.c \
	mod_intune_scep/gateway/account.c \
	mod_intune_scep/gateway/deliver.c \
	mod_intune_scep/gateway/enroll.c \
	mod_intune_scep/gateway/events.c \
	mod_intune_scep/gateway/expiry.c \
	mod_intune_scep/gateway/failure.c \
	mod_intune_scep/gateway/inquiry.c \
	mod_intune_scep/gateway/issued.c \
	mod_intune_scep/gateway/outbox.c \
	mod_intune_scep/gateway/profile.c \
	mod_intune_scep/gateway/recall.c \
	mod_intune_scep/gateway/refusal.c \
	mod_intune_scep/gateway/report.c \
	mod_intune_scep/gateway/settings.c \
	mod_intune_scep/gateway/status.c \
	mod_intune_scep/gateway/status_health.c \
	mod_intune_scep/gateway/status_json.c \
	mod_intune_scep/gateway/status_metrics.c \
	mod_intune_scep/gateway/status_page.c \
	mod_intune_scep/gateway/status_page_location.c

httpd_sources = \
	mod_intune_scep/httpd/background.c \
	mod_intune_scep/httpd/counting.c \
	mod_intune_scep/httpd/directives.c \
	mod_intune_scep/httpd/error_log.c \
	mod_intune_scep/httpd/handler.c \
	mod_intune_scep/httpd/limit.c \
	mod_intune_scep/httpd/mod_intune_scep.c \
	mod_intune_scep/httpd/notes.c \
	mod_intune_scep/httpd/pace.c \
	mod_intune_scep/httpd/relay.c \
	mod_intune_scep/httpd/setup.c \
	mod_intune_scep/httpd/setup_backend.c \
	mod_intune_scep/httpd/setup_certificates.c \
	mod_intune_scep/httpd/setup_credential.c \
	mod_intune_scep/httpd/setup_around.c \
	mod_intune_scep/httpd/setup_host.c \
	mod_intune_scep/httpd/setup_journal.c \
	mod_intune_scep/httpd/setup_profile.c \
	mod_intune_scep/httpd/setup_request_line.c \
	mod_intune_scep/httpd/setup_scep.c \
	mod_intune_scep/httpd/setup_state_key.c \
	mod_intune_scep/httpd/socache.c \
	mod_intune_scep/httpd/status.c

# The command-line tool, over the core.
ctl_sources = \
	mod_intune_scep/ctl/check.c \
	mod_intune_scep/ctl/check_ca.c \
	mod_intune_scep/ctl/check_journal.c \
	mod_intune_scep/ctl/check_microsoft.c \
	mod_intune_scep/ctl/check_ra.c \
	mod_intune_scep/ctl/check_settings.c \
	mod_intune_scep/ctl/check_stranger.c \
	mod_intune_scep/ctl/client.c \
	mod_intune_scep/ctl/conf.c \
	mod_intune_scep/ctl/conf_lines.c \
	mod_intune_scep/ctl/decode.c \
	mod_intune_scep/ctl/dialogue.c \
	mod_intune_scep/ctl/enrol.c \
	mod_intune_scep/ctl/files.c \
	mod_intune_scep/ctl/journal.c \
	mod_intune_scep/ctl/journal_orphans.c \
	mod_intune_scep/ctl/journal_rows.c \
	mod_intune_scep/ctl/output.c \
	mod_intune_scep/ctl/ra_request.c \
	mod_intune_scep/ctl/setting_options.c \
	mod_intune_scep/ctl/steps.c

# Unit tests: a program for each core file, and what they share.
unit_tests = \
	tests/unit/test_answer \
	tests/unit/test_app_certificate \
	tests/unit/test_aside_provider \
	tests/unit/test_assertion \
	tests/unit/test_breaker \
	tests/unit/test_certificate \
	tests/unit/test_client_ca \
	tests/unit/test_client_make \
	tests/unit/test_codes \
	tests/unit/test_command \
	tests/unit/test_conf \
	tests/unit/test_counters \
	tests/unit/test_credential \
	tests/unit/test_crl \
	tests/unit/test_ctl \
	tests/unit/test_ctl_journal \
	tests/unit/test_csr \
	tests/unit/test_database \
	tests/unit/test_database_group \
	tests/unit/test_engine \
	tests/unit/test_event \
	tests/unit/test_events \
	tests/unit/test_failure \
	tests/unit/test_fixtures \
	tests/unit/test_group \
	tests/unit/test_http \
	tests/unit/test_http_side \
	tests/unit/test_http_ways \
	tests/unit/test_identity \
	tests/unit/test_inquiry \
	tests/unit/test_intune \
	tests/unit/test_journal \
	tests/unit/test_journal_broken \
	tests/unit/test_journal_due \
	tests/unit/test_journal_killed \
	tests/unit/test_journal_operator \
	tests/unit/test_journal_race \
	tests/unit/test_journal_row \
	tests/unit/test_journal_schema \
	tests/unit/test_journal_transitions \
	tests/unit/test_json \
	tests/unit/test_location \
	tests/unit/test_log \
	tests/unit/test_memory \
	tests/unit/test_message \
	tests/unit/test_message_hostile \
	tests/unit/test_message_strict \
	tests/unit/test_outbox \
	tests/unit/test_observer \
	tests/unit/test_poll \
	tests/unit/test_poll_stored \
	tests/unit/test_probe \
	tests/unit/test_profile \
	tests/unit/test_recall \
	tests/unit/test_repeats \
	tests/unit/test_report \
	tests/unit/test_result \
	tests/unit/test_retry \
	tests/unit/test_seal \
	tests/unit/test_sealed_provider \
	tests/unit/test_secret \
	tests/unit/test_settings \
	tests/unit/test_shared_cache \
	tests/unit/test_state_key \
	tests/unit/test_status \
	tests/unit/test_text \
	tests/unit/test_tiered_cache \
	tests/unit/test_token \
	tests/unit/test_trace \
	tests/unit/test_transaction \
	tests/unit/test_transaction_broken \
	tests/unit/test_transaction_journal \
	tests/unit/test_turn \
	tests/unit/test_view

unit_fixtures = \
	tests/unit/credential_fixture.c \
	tests/unit/ctl_fixture.c \
	tests/unit/database_fixture.c \
	tests/unit/gateway_fixture.c \
	tests/unit/http_calls.c \
	tests/unit/http_fixture.c \
	tests/unit/intune_bed.c \
	tests/unit/journal_fixture.c \
	tests/unit/journal_steps.c \
	tests/unit/outside_fixture.c \
	tests/unit/pki_fixture.c \
	tests/unit/pki_more.c \
	tests/unit/wire_server.c

# The fuzzers: each with libFuzzer, or with replay.c.
fuzzers = \
	tests/fuzz/fuzz_answer \
	tests/fuzz/fuzz_conf_lines \
	tests/fuzz/fuzz_crl \
	tests/fuzz/fuzz_csr \
	tests/fuzz/fuzz_http \
	tests/fuzz/fuzz_intune \
	tests/fuzz/fuzz_journal_row \
	tests/fuzz/fuzz_json \
	tests/fuzz/fuzz_message \
	tests/fuzz/fuzz_query \
	tests/fuzz/fuzz_request \
	tests/fuzz/fuzz_settings \
	tests/fuzz/fuzz_text

fuzz_shared = \
	tests/fuzz/fuzz.c \
	tests/fuzz/fuzz_pki.c \
	tests/fuzz/fuzz_pool.c

# The stand-ins.
sim_microsoft_sources = \
	tests/sim/mod_sim_microsoft.c \
	tests/sim/sim_ms_assertion.c \
	tests/sim/sim_ms_challenge.c \
	tests/sim/sim_ms_control.c \
	tests/sim/sim_ms_csr.c \
	tests/sim/sim_ms_entra.c \
	tests/sim/sim_ms_fault.c \
	tests/sim/sim_ms_intune.c \
	tests/sim/sim_ms_record.c \
	tests/sim/sim_ms_tenant.c \
	tests/sim/sim_ms_util.c

sim_ca_sources = \
	tests/sim/mod_sim_ca.c \
	tests/sim/sim_ca_inquiry.c \
	tests/sim/sim_ca_issue.c \
	tests/sim/sim_ca_mix.c \
	tests/sim/sim_ca_record.c \
	tests/sim/sim_ca_scep.c \
	tests/sim/sim_ca_state.c \
	tests/sim/sim_ca_transaction.c \
	tests/sim/cms_messages.c \
	tests/sim/cms_tools.c

sim_device_sources = \
	tests/sim/device.c \
	tests/sim/device_again.c \
	tests/sim/device_answer.c \
	tests/sim/device_csr.c \
	tests/sim/device_message.c \
	tests/sim/device_request.c \
	tests/sim/cms_messages.c \
	tests/sim/cms_tools.c

sim_headers = \
	tests/sim/cms_tools.h \
	tests/sim/device.h \
	tests/sim/sim_ca.h \
	tests/sim/sim_ms.h \
	tests/sim/sim_ms_util.h

# The benchmark.
bench_load_sources = \
	tests/bench/load.c \
	tests/bench/load_report.c \
	tests/bench/http_answer.c

bench_load_headers = \
	tests/bench/load_report.h \
	tests/bench/http_answer.h
