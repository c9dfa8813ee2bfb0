# A container runtime as far as networks go: reads one line for each operation (ADD|DEL, container, namespace), runs the plugins of its
# chain as libcni does, and prints how many microseconds they took, or ERROR and why. Small, so that starting programs costs it little.
# Arguments: cni PATH=CONF... (a chain) | netavark PROGRAM CONF FOLDER
use strict;
my ($kind, @rest) = @ARGV;
$| = 1;
my $clock = `uname -m` =~ /x86_64/ ? 228 : 113;    # clock_gettime(CLOCK_MONOTONIC): perl-base has no Time::HiRes
sub now { my $t = "\0" x 16; syscall($clock, 1, $t); my ($s, $n) = unpack 'q2', $t; return $s * 1e6 + $n / 1e3 }
sub slurp { open my $f, '<', $_[0] or die "$_[0]: $!"; local $/; my $text = <$f>; $text =~ s/\s+$//; return $text }
my @chain = $kind eq 'cni' ? map { my ($exe, $conf) = split /=/, $_, 2; [$exe, slurp($conf)] } @rest : ();
my $netavark = $kind eq 'netavark' ? slurp($rest[1]) : '';

# Runs one program with its input; its output, or dies.
sub run {
    my ($input, @command) = @_;
    pipe(my $in_r, my $in_w); pipe(my $out_r, my $out_w);
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open STDIN, '<&', $in_r; open STDOUT, '>&', $out_w;
        close $_ for $in_r, $in_w, $out_r, $out_w;
        exec @command or exit 127;
    }
    close $in_r; close $out_w;
    syswrite $in_w, $input; close $in_w;
    my $out = ''; while (sysread $out_r, $out, 65536, length $out) { }
    waitpid $pid, 0;
    die "$command[0]: $out (status $?)" if $?;
    $out =~ s/\s+$//;
    return $out;
}

my $previous = '';
while (my $line = <STDIN>) {
    chomp $line;
    my ($verb, $id, $netns) = split / /, $line;
    @ENV{qw(CNI_COMMAND CNI_CONTAINERID CNI_NETNS CNI_IFNAME)} = ($verb, $id, $netns, 'eth0');    # CNI_PATH is given
    my $begun = now();
    eval {
        if ($kind eq 'netavark') {
            (my $input = $netavark) =~ s/CONTAINER/$id/g;
            run($input, $rest[0], '--config', $rest[2], $verb eq 'ADD' ? 'setup' : 'teardown', $netns);
        } else {
            for my $plugin ($verb eq 'ADD' ? @chain : reverse @chain) {
                my ($exe, $conf) = @$plugin;
                $conf = substr($conf, 0, -1) . ",\"prevResult\":$previous}" if $previous ne '';
                my $out = run($conf, $exe);
                $previous = $out if $verb eq 'ADD';
            }
            $previous = '' if $verb eq 'DEL';
        }
        1;
    } or do { my $why = $@; $why =~ s/\s+/ /g; print "ERROR $why\n"; $previous = ''; next };
    printf "%d\n", now() - $begun;
}
