package redis_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	goredis "github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kisgrid/kisgrid/internal/devcluster"
	"github.com/kisgrid/kisgrid/internal/testprocess"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/connector/memory"
	"github.com/kisgrid/kisgrid/pkg/connector/redis"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Texts that are numbers to some, and not to others.
var numbers = []string{
	"", "0", "-0", "+0", "00", "007", "1", "-1", "+1", " 1", "1 ", "\t1", "1\x00", "0.0", "-0.0", ".5", "5.", ".", "-", "+", "e1", "1e", "1e+", "1e1", "1E+1", "1e-1", "-.5e1",
	"0.1", "0.2", "-1e-30", "1e17", "1e18", "1e-17", "5e-18", "4e-18", "15e-18", "25e-18", "123456789.123456789123456789", "0.12345678901234567890123456789",
	"inf", "-inf", "+inf", "Inf", "INFINITY", "infinity", "nan", "NaN", "-nan", "nan(1)", "1e308", "1e309", "1e400", "-1e400", "1e4931", "1e4932", "1.18973149535723176502e4932",
	"1.19e4932", "1e4933", "1e5000", "1e99999999999999999999", "0e99999999999999999999", "1e-4931", "1e-4950", "3.6e-4951", "1.9e-4951", "1.8e-4951", "1e-4952", "1e-5000",
	"9223372036854775807", "-9223372036854775808", "9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616", "36893488147419103232",
	"9007199254740993", "9007199254740993.5", "0x1p3", "0X1P3", "0x10", "-0x10", "0x.8", "0x1.8", "0x", "0x.", "0x1p", "0x1p-3", "0x1p16383", "0x1p16384", "0x1p99999", "0x1p-16445", "0x1p-16446",
	"0x1.fffffffffffffffep16383", "0x1.ffffffffffffffffp16383", "1p3", "1_000", "1,5", "1.2.3", "--1", "+-1", "1e1.5", "abc", "true", "null", "٣", "1" + "\xff",
	strings.Repeat("1", 100), "0." + strings.Repeat("0", 100) + "1", strings.Repeat("9", 4932), strings.Repeat("9", 4933), "1" + strings.Repeat("0", 5118), strings.Repeat("0", 5119), strings.Repeat("0", 5120),
}

var texts = []string{"", "a", "b", "A", "\x00", "a\x00b", "\xff\xfe", "\r\n", "{", "{}", "{a}b", "}{", "ключ", "🙂", "[^S]", "*", "$-1\r\n", strings.Repeat("k", 70_000)}

// The memory and the Redis connector agree on every key, field, value and number: on what is refused, and on what is there.
func TestConnectorsAgree(t *testing.T) {
	embedded, err := devcluster.StartRedis(devcluster.RedisConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer embedded.Close()
	installed := testprocess.Address(t)
	testprocess.StartRedis(t, installed, nil)
	for name, addr := range map[string]string{"redis-server": installed, "embedded": embedded.Address()} {
		t.Run(name, func(t *testing.T) { agree(t, addr) })
	}
}

func agree(t *testing.T, addr string) {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: addr})
	defer client.Close()
	theirs, err := redis.Open(t.Context(), &definition.Connector{Name: "Test", Type: "redis", Addrs: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	number := rapid.OneOf(rapid.SampledFrom(numbers), rapid.Map(rapid.Int64(), func(n int64) string { return strconv.FormatInt(n, 10) }),
		rapid.Map(rapid.Float64(), func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }),
		rapid.Map(rapid.Float64Range(-1e6, 1e6), func(f float64) string { return strconv.FormatFloat(f, 'f', 6, 64) }),
		rapid.StringMatching(`[-+]?[0-9]{0,25}(\.[0-9]{0,25})?([eE][-+]?[0-9]{1,4})?`), rapid.StringMatching(`[-+]?0[xX][0-9a-fA-F]{0,20}(\.[0-9a-f]{0,20})?([pP][-+]?[0-9]{1,5})?`))
	value := rapid.OneOf(number, rapid.SampledFrom(texts), rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	name := rapid.OneOf(rapid.SampledFrom(texts), rapid.String())
	rapid.Check(t, func(t *rapid.T) {
		client.FlushAll(t.Context())
		ours, err := memory.New().Open(t.Context(), &definition.Connector{Name: "Test", Type: "memory"})
		if err != nil {
			t.Fatal(err)
		}
		keys, fields := rapid.SliceOfN(name, 1, 4).Draw(t, "keys"), rapid.SliceOfN(name, 1, 4).Draw(t, "fields")
		var effects []connector.Effect
		for i := range rapid.IntRange(1, 40).Draw(t, "n") {
			e := connector.Effect{Key: rapid.SampledFrom(keys).Draw(t, "key"), Field: rapid.SampledFrom(fields).Draw(t, "field"), Row: uint32(i)}
			e.Op = rapid.SampledFrom([]connector.Op{connector.Set, connector.Incr, connector.Incr, connector.Incr, connector.Append, connector.Delete}).Draw(t, "op")
			if e.Op == connector.Incr {
				e.Value = number.Draw(t, "number")
			} else {
				e.Value = value.Draw(t, "value")
			}
			effects = append(effects, e)
		}
		cause := connector.Cause{Flow: "F", Function: "s"}
		if rapid.Bool().Draw(t, "remembered") {
			cause.Batch = batch.ID{Stream: batch.NewStreamID(), Sequence: 1}
		}
		a, errOurs := ours.Save(t.Context(), cause, effects)
		b, errTheirs := theirs.Save(t.Context(), cause, effects)
		if errOurs != nil || errTheirs != nil {
			t.Fatal(errOurs, errTheirs)
		}
		for i := range effects {
			var x, y error
			if a != nil {
				x = a[i]
			}
			if b != nil {
				y = b[i]
			}
			if batch.CodeOf(x) != batch.CodeOf(y) {
				t.Fatalf("effect %d, %.300v: the memory says %v, Redis %v", i, effects[i], x, y)
			}
		}
		inMemory, errOurs := ours.Load(t.Context(), keys)
		inRedis, errTheirs := theirs.Load(t.Context(), keys)
		if errOurs != nil || errTheirs != nil {
			t.Fatal(errOurs, errTheirs)
		}
		for i, key := range keys {
			if batch.CodeOf(inMemory[i].Err) != batch.CodeOf(inRedis[i].Err) {
				t.Fatalf("key %.100q: the memory says %v, Redis %v", key, inMemory[i].Err, inRedis[i].Err)
			}
			order := cmpopts.SortSlices(func(a, b connector.Field) bool { return a.Name < b.Name })
			if diff := cmp.Diff(inMemory[i].Fields, inRedis[i].Fields, order, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("key %.100q (- memory, + Redis):\n%s", key, diff)
			}
		}
	})
}
