package redis

import (
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Peek tells the content of a key of each type, and leaves the store as it is.
func TestPeek(t *testing.T) {
	s := startServer(t, "")
	ctx := t.Context()
	client := goredis.NewClient(&goredis.Options{Addr: s.addr})
	t.Cleanup(func() { _ = client.Close() })
	for i := range 1500 {
		if err := client.HSet(ctx, "p_big", fmt.Sprint("f", i), i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		client.HSet(ctx, "p_hash", "a", "1", "b", "x y").Err(), client.Expire(ctx, "p_hash", time.Hour).Err(),
		client.RPush(ctx, "p_list", "one", "two", "three").Err(), client.Set(ctx, "p_text", "plain", 0).Err(), client.SAdd(ctx, "p_set", "x").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before, err := client.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	doc := &definition.Connector{Name: "C", Type: "redis", Key: "p_", Addrs: []string{s.addr}}
	for key, want := range map[string]Peeked{
		"hash": {Type: "hash", Length: 2, Fields: []connector.Field{{Name: "a", Value: "1"}, {Name: "b", Value: "x y"}}},
		"list": {Type: "list", Length: 3, Values: []string{"one", "two"}},
		"text": {Type: "string", Length: 1, Fields: []connector.Field{{Value: "plain"}}},
		"set":  {Type: "set"},
		"none": {Type: "none"},
	} {
		got, err := Peek(ctx, doc, key, 2)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if left := got.Left; key == "hash" && (left <= 0 || left > time.Hour) || key != "hash" && left != 0 {
			t.Errorf("%s expires in %v", key, left)
		}
		got.Left, want.Stored = 0, "p_"+key
		if fmt.Sprint(*got) != fmt.Sprint(want) {
			t.Errorf("%s: %+v, want %+v", key, *got, want)
		}
	}
	for most, want := range map[int]int{7: 7, 5000: 1500} {
		if got, err := Peek(ctx, doc, "big", most); err != nil || len(got.Fields) != want || got.Length != 1500 {
			t.Errorf("up to %d fields of a big hash: %d of %d, %v", most, len(got.Fields), got.Length, err)
		}
	}
	after, err := client.Keys(ctx, "*").Result()
	if err != nil || len(after) != len(before) {
		t.Errorf("before there were the keys %q, and now %q (%v)", before, after, err)
	}
	doc.Addrs = []string{"127.0.0.1:1"}
	if _, err := Peek(ctx, doc, "hash", 1); batch.CodeOf(err) != batch.CodeConnectorUnavailable {
		t.Errorf("a store that is away: %v", err)
	}
}
