package simredis_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/internal/world/simredis"
)

// speaker is a connection to a Redis on which a test speaks the protocol itself, so that it sees each answer as it is.
type speaker struct {
	net.Conn
	answers *bufio.Reader
}

// say sends a command, and returns its answer as text.
func (s *speaker) say(t *testing.T, words ...string) string {
	t.Helper()
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
	return s.read(t)
}

// read reads one answer: nested, with the sign of each part.
func (s *speaker) read(t *testing.T) string {
	t.Helper()
	line, err := s.answers.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch {
	case line[0] == '$' && n >= 0:
		text := make([]byte, n+2)
		if _, err := io.ReadFull(s.answers, text); err != nil {
			t.Fatal(err)
		}
		return strconv.Quote(string(text[:n]))
	case line[0] == '*' && n >= 0:
		parts := make([]string, n)
		for i := range parts {
			parts[i] = s.read(t)
		}
		return "[" + strings.Join(parts, "\t") + "]"
	}
	return line
}

// both are a real Redis and a simulated one, which get the same commands.
type both struct {
	real, simulated *speaker
	address         string // of the real one
	redis           *simredis.Redis
	wire            *wire
}

// startBoth starts a real Redis and a simulated one. Without a redis-server on the machine the test is skipped.
func startBoth(t *testing.T) *both {
	t.Helper()
	b := &both{address: testprocess.Socket(t), wire: &wire{}}
	testprocess.StartRedis(t, b.address, nil)
	s, err := simredis.Start(t.Context(), simredis.Config{Listen: b.wire.Listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b.redis = s
	b.connect(t)
	return b
}

// connect makes a new connection to each.
func (b *both) connect(t *testing.T) {
	t.Helper()
	to := func(dial func() (net.Conn, error)) *speaker {
		conn, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return &speaker{conn, bufio.NewReader(conn)}
	}
	b.real = to(func() (net.Conn, error) { return net.Dial("unix", b.address) })
	b.simulated = to(func() (net.Conn, error) { return b.wire.Dial(context.Background(), "", "") })
}

// unordered are commands whose answer has no order.
var unordered = []string{"hgetall", "hkeys", "smembers", "keys"}

// same fails the test unless both give the same answer, which it returns.
func (b *both) same(t *testing.T, words ...string) string {
	t.Helper()
	want, got := b.real.say(t, words...), b.simulated.say(t, words...)
	if n := b.simulated.answers.Buffered(); n > 0 {
		t.Fatalf("%q: %d bytes behind the answer", words, n)
	}
	if slices.Contains(unordered, words[0]) {
		want, got = sorted(want, words[0] == "hgetall"), sorted(got, words[0] == "hgetall")
	}
	if want != got {
		t.Errorf("%q: the real Redis answers %s, the simulated one %s", words, want, got)
	}
	return got
}

// sorted sorts the parts, or the pairs of parts, of a list.
func sorted(answer string, pairs bool) string {
	if !strings.HasPrefix(answer, "[") {
		return answer
	}
	parts := strings.Split(strings.Trim(answer, "[]"), "\t")
	if pairs {
		var joined []string
		for i := 0; i+1 < len(parts); i += 2 {
			joined = append(joined, parts[i]+" "+parts[i+1])
		}
		parts = joined
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// drawn are the words that random commands are made of. KEY, TEXT, … are drawn.
var drawn = strings.Fields(`
hset:KEY:FIELD:TEXT hset:KEY:FIELD:NUMBER hset:KEY:FIELD:NUMBER:FIELD:TEXT hset:KEY:FIELD hget:KEY:FIELD hmget:KEY:FIELD:FIELD:FIELD hgetall:KEY
hlen:KEY hkeys:KEY hdel:KEY:FIELD hdel:KEY:FIELD:FIELD hexists:KEY:FIELD hsetnx:KEY:FIELD:TEXT hstrlen:KEY:FIELD hincrby:KEY:FIELD:NUMBER
hincrby:KEY:FIELD:NUMBER hincrbyfloat:KEY:FIELD:NUMBER hincrbyfloat:KEY:FIELD:NUMBER rpush:KEY:TEXT rpush:KEY:TEXT:NUMBER lrange:KEY:0:-1 llen:KEY
del:KEY del:KEY:KEY exists:KEY exists:KEY:KEY:KEY type:KEY set:KEY:TEXT set:KEY:NUMBER:px:100000 get:KEY sadd:KEY:TEXT:TEXT smembers:KEY
zadd:KEY:SCORE:TEXT zscore:KEY:TEXT zremrangebyscore:KEY:-inf:SCORE zcard:KEY xlen:KEY xrange:KEY:-:+ xrange:KEY:-:+:count:2 xrange:KEY:ID:ID
xrange:KEY:(ID:+ xrevrange:KEY:+:-:count:1 xdel:KEY:ID xadd:KEY:ID:id:TEXT:letter:TEXT pexpire:KEY:100000 pexpire:KEY:LATER:GT pexpire:KEY:30000:GT
pexpire:KEY:100000:NX pexpire:KEY:100000:XX pexpire:KEY:40000:LT expire:KEY:100 pexpire:KEY:0 pexpire:KEY:abc set:KEY:TEXT:px:0 ttl:KEY unlink:KEY persist:KEY dbsize unknown:KEY hget:KEY hgetall:KEY:KEY pubsub:numsub:a:b ping ping:TEXT`)

// command draws the n-th command.
func command(random *rand.Rand, n int) []string {
	words := strings.Split(drawn[random.IntN(len(drawn))], ":")
	numbers := []string{
		"1", "-1", "0", "17", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "0.1", "-2.5e3", "3.0", "1e400", "abc", "", " 1", "01", "+1",
		"inf", "nan", "0x10", "1e-5", "100000000000000000000",
	}
	for i, w := range words {
		switch strings.TrimPrefix(w, "(") {
		case "KEY":
			words[i] = "k" + strconv.Itoa(random.IntN(8))
		case "FIELD":
			words[i] = "f" + strconv.Itoa(random.IntN(4))
		case "TEXT":
			words[i] = []string{"", "a", "b", "c\r\nd", "\x00\xff"}[random.IntN(5)]
		case "NUMBER":
			words[i] = numbers[random.IntN(len(numbers))]
		case "LATER": // by more than the time that passes from one command to the next
			words[i] = strconv.Itoa(200_000 + 10_000*n)
		case "SCORE":
			words[i] = []string{"1", "2.5", "17", "1700000", "-3"}[random.IntN(5)]
		case "ID":
			words[i] = strings.TrimSuffix(w, "ID") + strconv.Itoa(1+random.IntN(30)) + "-" + strconv.Itoa(random.IntN(3))
		}
	}
	return words
}

// The simulated Redis answers random commands as the real one does, those of clients and those of scripts.
func TestCommandsAreRedis(t *testing.T) {
	b := startBoth(t)
	random := rand.New(rand.NewPCG(1, 2))
	const asScript = `return redis.pcall(unpack(ARGV))`
	for n := range 20_000 {
		words := command(random, n)
		if n%2 == 0 {
			b.same(t, words...)
		} else if !slices.Contains(unordered, words[0]) && words[0] != "pubsub" && words[0] != "ping" {
			b.same(t, append([]string{"eval", asScript, "0"}, words...)...)
		}
		if n%1000 == 999 {
			b.same(t, "flushall")
		}
		if t.Failed() {
			return // what follows differs too
		}
	}
}

// inTrouble are commands as KisGrid's connector and its store of dead letters send them, for a Redis in trouble.
var inTrouble = [][]string{
	{"ping"},
	{"get", "s"},
	{"hgetall", "h"},
	{"exists", "h"},
	{"hset", "h", "f", "x"},
	{"hincrby", "h", "n", "1"},
	{"hincrbyfloat", "h", "n", "0.5"},
	{"rpush", "l", "x"},
	{"del", "gone"},
	{"hdel", "h", "gone"},
	{"pexpire", "h", "100000"},
	{"set", "s", "x"},
	{"sadd", "set", "x"},
	{"xadd", "x", "9-9", "id", "1"},
	{"xdel", "x", "9-9"},
	{"zadd", "z", "1", "x"},
	{"zremrangebyscore", "z", "-inf", "0"},
	{"publish", "channel", "x"},
	{"pubsub", "numsub", "channel"},
	{"eval", "return redis.call('HGET', KEYS[1], 'f')", "1", "h"},
	{"eval", "return redis.call('HSET', KEYS[1], 'f', 'y')", "1", "h"},
	{"eval", "return redis.pcall('HSET', KEYS[1], 'f', 'y')", "1", "h"},
	{"eval", "redis.call('DEL', 'gone') return redis.call('HSET', KEYS[1], 'f', 'z')", "1", "h"},
	{"eval", "local a = redis.pcall('HSET', KEYS[1], 'f', 'y')\nredis.call('DEL', 'gone')\nreturn redis.call('RPUSH', 'l', 'y')", "1", "h"},
	{"evalsha", "0123456789012345678901234567890123456789", "0"},
	{"select", "0"},
	{"client", "setname", "kisgrid"},
	{"multi"},
	{"hset", "h", "f", "m"},
	{"exec"},
	{"hello", "2", "setname", "x", "wrong"},
}

// The simulated Redis in trouble answers as the real one does.
func TestTroublesAreRedis(t *testing.T) {
	for name, trouble := range map[string]struct {
		real func(t *testing.T, s *speaker)
		sim  func(r *simredis.Redis)
	}{
		"none": {func(*testing.T, *speaker) {}, func(*simredis.Redis) {}},
		"memory full": {
			func(t *testing.T, s *speaker) { t.Helper(); s.say(t, "config", "set", "maxmemory", "1") },
			func(r *simredis.Redis) { r.Fill(true) },
		},
		"replica": {
			func(t *testing.T, s *speaker) { t.Helper(); s.say(t, "replicaof", "127.0.0.1", "1") },
			func(r *simredis.Redis) { r.ReadOnly(true) },
		},
		"new password": {
			func(t *testing.T, s *speaker) { t.Helper(); s.say(t, "config", "set", "requirepass", "secret") },
			func(r *simredis.Redis) { r.SetPassword("secret") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBoth(t)
			for _, words := range [][]string{
				{"hset", "h", "f", "v", "n", "1"}, {"rpush", "l", "v"}, {"set", "s", "v"}, {"sadd", "set", "v"}, {"zadd", "z", "1", "v"},
				{"auth", "x"}, {"auth", "default", "x"}, {"auth", "user", "x"}, {"hello", "4"}, {"hello", "x"}, {"select", "16"}, {"select", "x"},
			} {
				b.same(t, words...)
			}
			trouble.real(t, b.real)
			trouble.sim(b.redis)
			for _, words := range inTrouble {
				b.same(t, words...)
			}
			if name != "none" { // the answer takes time
				b.same(t, "wait", "0", "0")
			}
			b.connect(t)
			want, got := b.real.say(t, "hello", "2"), b.simulated.say(t, "hello", "2")
			if number := regexp.MustCompile(`:\d+`); number.ReplaceAllString(want, "N") != number.ReplaceAllString(got, "N") {
				t.Errorf("the handshake: the real Redis answers %s, the simulated one %s", want, got)
			}
			for _, words := range inTrouble {
				b.same(t, words...)
			}
			for _, words := range [][]string{{"auth", "wrong"}, {"auth", "default", "wrong"}, {"auth", "secret"}, {"get", "s"}} {
				b.same(t, words...)
			}
		})
	}
}

// Scripts that fail are answered as the real Redis answers them.
func TestScriptsAreRedis(t *testing.T) {
	b := startBoth(t)
	b.same(t, "rpush", "l", "v")
	b.same(t, "hset", "h", "f", "v")
	for _, script := range []string{
		"return 1", "return 1.9", "return -1.9", "return 'x'", "return true", "return false", "return nil", "return {1, 'x', {2, false, true}, nil, 3}", "return {}",
		"return {err = 'MY error'}", "return {ok = 'fine'}", "return redis.error_reply('MY error')", "return redis.error_reply('ERROR')", "return redis.status_reply('fine')",
		"return redis.call('HGET', 'l', 'f')", "\n\nreturn redis.call('HGET', 'l', 'f')", "return redis.pcall('HGET', 'l', 'f')", "return redis.call('NONSENSE')",
		"return redis.call('HGET', 'h')", "return redis.call('HGET', 'h', 'gone')", "return redis.call('HMGET', 'h', 'f', 'gone')", "return redis.call('HGETALL', 'gone')",
		"return redis.call('PING')", "return redis.call('SET', 's', 1)", "return redis.call('SET', 's', 1.5) and redis.call('GET', 's')",
		"return redis.call('SET', 's', 12345678901234) and redis.call('GET', 's')", "return redis.call('SET', 's', 1e20) and redis.call('GET', 's')",
		"return redis.call('SET', 's', 0.1) and redis.call('GET', 's')", "return redis.call('HSET', 'h', 'f', {})", "return redis.call()",
		"return redis.sha1hex('x')", "return bit.band(7, 12)", "return bit.band(255, 15, 6)", "return cjson.decode('{\"id\":\"x\"}').id", "return #KEYS + #ARGV", "return ARGV[1]",
		"return string.format('%.0f', 1e15)", "return string.format('%d', 7)", "return tostring(17)", "return math.floor(7.9)",
		"return rawget(_G, 'nothing') == nil", "return redis.call('EVAL', 'return 1', 0)", "return {string.byte('abc', 1, -1)}",
		"return {string.find('abc', '[^A]', 2)}", "return string.sub('abc', 2)", "return string.match('12 34', '^(%d+) (%d+)$')", "local a, b = unpack({1, 2}) return b",
		"local t = {} for i = 1, 3 do t[#t + 1] = i end return t", "return redis.call('TIME')[1] ~= nil", "if redis.replicate_commands then redis.replicate_commands() end return 1",
		"return nosuchvariable", "\nerror('own')", "error({err = 'MY own'})",
	} {
		b.same(t, "eval", script, "0", "argument")
	}
	for _, script := range []string{"return ..", "this is no script"} {
		const want = "-ERR Error compiling script (new function): user_script"
		if got := b.simulated.say(t, "eval", script, "0"); !strings.HasPrefix(got, want) || !strings.HasPrefix(b.real.say(t, "eval", script, "0"), want) {
			t.Errorf("the script %q is answered with %s", script, got)
		}
	}
	sha := strings.Trim(b.same(t, "script", "load", "return ARGV[1]"), `"`)
	b.same(t, "evalsha", sha, "0", "x")
	b.same(t, "evalsha", strings.ToUpper(sha), "0", "x")
	b.same(t, "script", "exists", sha, "x")
	b.same(t, "script", "flush")
	b.same(t, "evalsha", sha, "0", "x")
	b.same(t, "eval", "return 1", "x")
	b.same(t, "eval", "return 1", "-1")
	b.same(t, "eval", "return 1", "1")
	b.same(t, "eval", "return 1")
}
