"""The defences of the host: what leaves the roots, the permitted network or the granted programs meets."""

from __future__ import annotations

from defence import row

_FILE, _EGRESS, _HTTP, _EXEC = (
    f"tests/test_{name}.py" for name in ("module_file", "egress", "module_http", "module_exec")
)
_ALL_ADDRESSES = 'egress(("0.0.0.0/0", "::/0"), ())'

DEFENCES = (
    row(
        "dots that lead out of a root",
        "host/reach.py:_back",
        f"{_FILE}::test_attack_dots_that_lead_out[a/../../outside/secret]",
        "        if not self._names:\n            raise Outside\n",
        '        if not self._names:\n            return self._hold(os.open(b"..", _HELD, dir_fd=self.directory))\n',
    ),
    row(
        "/proc/self, and any path that lies elsewhere",
        "host/reach.py:_below",
        f"{_FILE}::test_attack_paths_that_lie_elsewhere",
        "                return root, pending[:rest]\n    raise Outside\n",
        '                return root, pending[:rest]\n    return b"/", pending\n',
    ),
    row(
        "a link that leads out of a root",
        "host/reach.py:_follow",
        f"{_FILE}::test_attack_links_that_lead_out",
        "            root, pending = _below(self._roots, target)\n",
        '            root, pending = b"/", _reversed_parts(target)\n',
    ),
    row(
        "a file that becomes a link between check and use",
        "host/disk.py:_opened",
        f"{_FILE}::test_attack_a_file_that_becomes_a_link_between_check_and_use[read]",
        "_CAREFULLY = os.O_NOFOLLOW |",
        "_CAREFULLY =",
    ),
    row(
        "a directory that becomes a link between check and use",
        "host/reach.py:_opened",
        f"{_FILE}::test_attack_a_directory_that_becomes_a_link_between_check_and_use[read]",
        "_HELD = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW",
        "_HELD = os.O_PATH | os.O_DIRECTORY",
    ),
    row(
        "links that multiply",
        "host/reach.py:go",
        f"{_FILE}::test_attack_links_and_dots_that_multiply",
        "            if self._steps > _MAX_STEPS:\n",
        "            if False:\n",
        ("host/reach.py", "        if self._links > _MAX_LINKS:\n", "        if False:\n"),
    ),
    row(
        "a FIFO that nobody writes to",
        "host/disk.py:_opened",
        f"{_FILE}::test_attack_what_is_no_regular_file[fifo]",
        "_CAREFULLY = os.O_NOFOLLOW | os.O_NONBLOCK |",
        "_CAREFULLY = os.O_NOFOLLOW |",
    ),
    row(
        "a redirect to a host that is not permitted",
        "modules/http.py:_attempt",
        f"{_HTTP}::test_a_redirect_to_a_denied_host_is_refused",
        "exchange(rules, request, patience)",
        f"exchange(rules if request is plan.request else {_ALL_ADDRESSES}, request, patience)",
    ),
    row(
        "an IPv4 address in IPv6's notation",
        "../egress.py:_reached",
        f"{_EGRESS}::test_a_denied_network_holds_what_is_another_way_to_it",
        "        if address.ipv4_mapped:\n",
        "        if False:\n",
    ),
    row(
        "an IPv4 address behind a translator (NAT64)",
        "../egress.py:_reached",
        f"{_EGRESS}::test_what_is_not_public_is_refused_by_default[64:ff9b::a9fe:a9fe]",
        "        if address in _NAT64:\n",
        "        if False:\n",
    ),
    row(
        "a cloud's metadata address",
        "../egress.py:reach_of",
        f"{_EGRESS}::test_what_is_not_public_is_refused_by_default[168.63.129.16]",
        "_in(address, _METADATA) or ",
        "",
    ),
    row(
        "an address in decimal or hexadecimal",
        "web/dial.py:dial",
        f"{_EGRESS}::test_an_address_is_read_as_the_resolver_reads_it[2130706433]",
        "permitted = [each for each in found if rules.permits(host, port, ip_address(each[4][0]))]",
        "permitted = found",
    ),
    row(
        "a name that resolves elsewhere between check and connect",
        "web/dial.py:dial",
        f"{_EGRESS}::test_the_address_that_was_checked_is_the_one_that_is_connected_to",
        "return _connected(address, patience,",
        "return _connected(look_up(host, port, patience)[0], patience,",
    ),
    row(
        "the open connection of a hook with other rules",
        "web/exchange.py:_pool",
        f"{_HTTP}::test_an_idle_connection_is_none_for_a_hook_with_other_rules",
        "        pool = _pools.get(rules)\n",
        "        pool = next(iter(_pools.values()), None)\n",
        ("web/exchange.py", "        _pools.move_to_end(rules)\n", ""),
    ),
    row(
        "a body that expands to gigabytes",
        "web/exchange.py:_body",
        f"{_HTTP}::test_a_decompression_bomb_is_not_unpacked[gzip]",
        "        if len(body) + len(chunk) > MAX_BODY:\n",
        "        if False:\n",
    ),
    row(
        "a line break in a header",
        "modules/http.py:_check_header",
        f"{_HTTP}::test_misuse_is_an_error_at_the_hooks_line",
        "    if _CONTROL.search(value):\n",
        "    if False:\n",
    ),
    row(
        "a program that policy does not name",
        "modules/exec.py:_program",
        f"{_EXEC}::test_only_what_policy_names_is_run",
        "if grants is not True and not is_granted(program, wanted, grants or ()):",
        "if False:",
    ),
    row(
        "a command in an argument",
        "modules/exec.py:_command",
        f"{_EXEC}::test_attack_arguments_from_an_event_start_nothing_of_their_own",
        "return Command(program, arguments, directory,",
        'return Command("/bin/sh", [b"sh", b"-c", b" ".join(arguments)], directory,',
    ),
    row(
        "a shell's operators in a line",
        "modules/exec.py:_words",
        f"{_EXEC}::test_attack_a_line_with_a_shells_operators_is_refused_with_what_would_be_right",
        "    if meant:\n",
        "    if False:\n",
    ),
    row(
        "LD_PRELOAD, and what else makes a program run other code",
        "modules/exec.py:_environment",
        f"{_EXEC}::test_attack_lending_a_granted_program_to_other_code[LD_PRELOAD]",
        "if call.grants.exec is not True and loads_code(os.fsdecode(name)):",
        "if False:",
    ),
    row(
        "a PATH that leads through the working directory",
        "host/programs.py:search_path",
        f"{_EXEC}::test_attack_a_path_that_leads_through_the_working_directory",
        'directory for directory in directories if directory.startswith("/")',
        "directories",
    ),
    row(
        "a program of the hook's own under a granted name",
        "host/programs.py:is_granted",
        f"{_EXEC}::test_attack_a_program_of_the_hooks_own_by_a_granted_name",
        " and find_program(granted) == program",
    ),
    row(
        "a program reads the processor's environment and memory",
        "modules/exec.py:run",
        f"{_EXEC}::test_attack_reading_the_processors_own_environment_and_memory",
        "        shut_to_programs()\n",
    ),
    row(
        "a program inherits the processor's environment",
        "modules/exec.py:_environment",
        f"{_EXEC}::test_the_environment_is_path_home_lang_and_what_the_hook_gives",
        "    environment = {\n",
        "    environment = {\n        **os.environb,\n",
    ),
    row(
        "what a program started outlives it",
        "../child.py:end",
        f"{_EXEC}::test_attack_an_orphan_in_a_session_of_its_own_is_killed_too",
        "        if with_strays:\n",
        "        if False:\n",
    ),
    row(
        "output of a program without an end",
        "../child.py:_take",
        f"{_EXEC}::test_attack_endless_output_neither_fills_memory_nor_outlives_its_time",
        "MAX_OUTPUT = 1024 * 1024 ",
        "MAX_OUTPUT = 1 << 40 ",
    ),
)
