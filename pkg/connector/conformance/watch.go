package conformance

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kisgrid/kisgrid/pkg/connector"
)

// within returns a context that ends after patience.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// await watches keys, and blocks until one of them may be there. If ctx ends first, it takes the keys back and returns ctx's error.
func await(ctx context.Context, c connector.Connection, keys ...string) error {
	woken := make(chan struct{}, len(keys))
	w := c.Watch(func(string) { woken <- struct{}{} })
	w.Add(keys...)
	defer w.Remove(keys...)
	select {
	case <-woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait tests that a key wakes its Watchers, whoever saves it and by whichever operation.
func wait(t *testing.T, s Store) {
	t.Helper()
	a, b := s.Open(t, prefix(t)), s.Open(t, prefix(t))
	save(t, a, set("there", "f", "v"))
	if err := await(within(t), b, "missing", "there"); err != nil {
		t.Errorf("a key that is there: %v", err)
	}
	tests := []struct {
		name   string
		saver  connector.Connection
		effect connector.Effect
	}{
		{"own set", a, set("own set", "f", "v")}, {"own incr", a, incr("own incr", "f", "1")}, {"own append", a, add("own append", "v")},
		{"other's set", b, set("other's set", "f", "v")}, {"other's incr", b, incr("other's incr", "f", "0.5")},
		{"other's append", b, add("other's append", "v")},
	}
	for _, test := range tests {
		s.part(t, test.name, func(t *testing.T) {
			ctx := within(t)
			done := make(chan error, 3)
			for range 3 {
				go func() { done <- await(ctx, a, "never 1", test.effect.Key, "never 2") }()
			}
			// A waiter that leaves takes nobody with it.
			leaving, leave := context.WithCancel(ctx)
			leave()
			if err := await(leaving, a, test.effect.Key); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("the one that left: %v", err)
			}
			save(t, test.saver, set("somebody else's", "f", "v"), test.effect)
			for range 3 {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		})
	}
	s.part(t, "deleted and saved again", func(t *testing.T) {
		save(t, a, set("again", "f", "v"), remove("again"))
		done := make(chan error, 1)
		ctx := within(t)
		go func() {
			// A Watcher may be told early: the key is watched again until it is there.
			for {
				if err := await(ctx, a, "again"); err != nil {
					done <- err
					return
				}
				if values, err := a.Load(ctx, []string{"again"}); err != nil || !values[0].Missing() {
					done <- err
					return
				}
			}
		}()
		save(t, b, set("again", "f", "v"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.part(t, "after one who left", func(t *testing.T) {
		keys, effects := make([]string, 100), make([]connector.Effect, 100)
		for i := range keys {
			keys[i] = "left" + strconv.Itoa(i)
			effects[i] = set(keys[i], "f", "v")
		}
		leaving, leave := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer leave()
		if err := await(leaving, a, keys...); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the one that left: %v", err)
		}
		save(t, b, effects...)
		save(t, b, effects...) // time for the news of the first to have gone by
		for _, key := range keys {
			if err := await(within(t), a, key); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.part(t, "many keys", func(t *testing.T) {
		const n = 5000
		keys := make([]string, n)
		for i := range keys {
			keys[i] = "many" + strconv.Itoa(i)
		}
		done := make(chan error, 2)
		ctx := within(t)
		go func() { done <- await(ctx, a, keys...) }()
		go func() { done <- await(ctx, b, keys...) }()
		save(t, b, set(keys[n-1], "f", "v"))
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// watch tests that a Watcher is told of each of many keys once.
func watch(t *testing.T, s Store) {
	t.Helper()
	a, b := s.Open(t, prefix(t)), s.Open(t, prefix(t))
	const n = 2000
	woken := make(chan string, 3*n)
	w := a.Watch(func(key string) { woken <- key })
	next := func() string {
		select {
		case key := <-woken:
			return key
		case <-within(t).Done():
			t.Fatal("nobody told of a key that is there")
			return ""
		}
	}
	save(t, b, set("there", "f", "v"))
	w.Add("there")
	if key := next(); key != "there" {
		t.Errorf("told of %q, not of the key that was there", key)
	}
	var keys []string
	var effects []connector.Effect
	for i := range n {
		keys = append(keys, "watched"+strconv.Itoa(i))
		effects = append(effects, set(keys[i], "f", "v"))
	}
	w.Add(keys...)
	w.Add("never", "taken back")
	w.Remove("taken back", "never added")
	var saving sync.WaitGroup
	for i, c := range []connector.Connection{a, b} {
		saving.Go(func() { save(t, c, effects[i*n/2:(i+1)*n/2]...) })
	}
	saving.Wait()
	seen := map[string]int{}
	for range keys {
		seen[next()]++
	}
	for _, key := range keys {
		if seen[key] != 1 {
			t.Fatalf("told of %s %d times", key, seen[key])
		}
	}
	// Told of, a key can be watched again.
	save(t, b, remove(keys[0]))
	w.Add(keys[0])
	save(t, b, effects[0])
	if key := next(); key != keys[0] {
		t.Errorf("told of %q, not of a key watched again", key)
	}
	w.Remove("never")
}

// races starts Watchers and Saves of the same keys together, on two connections, each of which saves half of the keys. Every
// Watcher must be woken.
func races(t *testing.T, s Store) {
	t.Helper()
	const together = 64
	connections := []connector.Connection{s.Open(t, prefix(t)), s.Open(t, prefix(t))}
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(s.Pairs)*time.Millisecond)
	defer cancel()
	places := make(chan struct{}, together)
	var group sync.WaitGroup
	for i := range s.Pairs {
		places <- struct{}{}
		start, key := make(chan struct{}), "pair"+strconv.Itoa(i)
		pair := make(chan struct{}, 2)
		group.Go(func() {
			<-start
			if err := await(ctx, connections[i%2], key); err != nil {
				t.Errorf("pair %d: %v", i, err)
			}
			pair <- struct{}{}
		})
		group.Go(func() {
			<-start
			if _, err := connections[(i+1)%2].Save(ctx, connector.Cause{}, []connector.Effect{set(key, "f", "v")}); err != nil {
				t.Errorf("pair %d: %v", i, err)
			}
			pair <- struct{}{}
		})
		group.Go(func() {
			close(start)
			<-pair
			<-pair
			<-places
		})
	}
	group.Wait()
}
