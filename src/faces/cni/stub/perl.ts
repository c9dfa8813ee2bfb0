/** The stub as a Perl script, for machines whose instructions are not known here: perl-base is on every Debian. */
import { ANSWER_HEADER_BYTES, ANSWER_MARK, REQUEST_MARK } from '../frames.ts'
import type { StubOptions } from './program.ts'

const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

/** Does what `program.ts` does; a few milliseconds slower. */
export function perlStub(options: StubOptions): string {
  return `#!/usr/bin/perl
# Causeway's CNI plugin: hands the call to the engine at ${options.socket}, or does it without one.
use strict;
use Socket;
$SIG{PIPE} = 'IGNORE';
sub fail { print '{"code":11,"msg":"', $_[0], '","details":"The socket is ${options.socket.replaceAll("'", '')}"}', "\\n"; exit 1 }
my $engine;
socket($engine, AF_UNIX, SOCK_STREAM, 0) && connect($engine, pack_sockaddr_un(${quote(options.socket)}))
  or do { exec(${options.fallback.map(quote).join(', ') || "''"}); fail('the engine is not running') };
setsockopt($engine, SOL_SOCKET, SO_RCVTIMEO, pack('q2', ${options.timeoutSeconds}, 0));
local $/;
binmode($_) for *STDIN, *STDOUT, *STDERR, $engine;
my $request = ${quote(REQUEST_MARK.replace('\0', ''))} . "\\0";
$request .= "$_=$ENV{$_}\\0" for grep { /^CNI_/ } keys %ENV;
$request .= "\\0" . (<STDIN> // '') . "\\0";
for (my $sent = 0; $sent < length $request; ) { $sent += syswrite($engine, $request, length($request) - $sent, $sent) || fail('the engine did not answer') }
my $answer = '';
while (my $got = sysread($engine, $answer, 65536, length $answer)) { }
my ($mark, $status, $descriptor, $zero, $length) = length $answer < ${ANSWER_HEADER_BYTES} ? (0) : unpack('C4V', $answer);
fail('the engine did not answer') if $mark != ${ANSWER_MARK} || length $answer != ${ANSWER_HEADER_BYTES} + $length;
print { $descriptor == 2 ? *STDERR : *STDOUT } substr($answer, ${ANSWER_HEADER_BYTES});
exit $status;
`
}
