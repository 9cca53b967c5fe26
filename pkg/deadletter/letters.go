package deadletter

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Flows are the flows that have letters, or had some, sorted.
func (s *Store) Flows(ctx context.Context) ([]string, error) {
	var flows []string
	err := s.call(ctx, "list the flows that have dead letters", func(ctx context.Context) error {
		members := goredis.NewStringSliceCmd(ctx, "smembers", s.config.Prefix+"flows")
		err := s.ask(ctx, members)
		flows = members.Val()
		return err
	})
	slices.Sort(flows)
	return flows, err
}

// Status is how the store of one flow's letters stands.
type Status struct {
	Flow    string
	Letters int
	Max     int
	MaxAge  time.Duration // negative: none
	// Refused are dead rows that were not kept because there was no room, Expired letters that were forgotten because of their
	// age: since the first one.
	Refused, Expired int
}

// Status counts a flow's letters.
func (s *Store) Status(ctx context.Context, flow string) (Status, error) {
	status := Status{Flow: flow, Max: s.config.Max, MaxAge: s.config.MaxAge}
	if err := s.expire(ctx, flow); err != nil {
		return status, err
	}
	err := s.call(ctx, "count the dead letters of flow "+flow, func(ctx context.Context) error {
		letters, counts := goredis.NewIntCmd(ctx, "xlen", s.key(flow, "letters")), goredis.NewMapStringStringCmd(ctx, "hgetall", s.key(flow, "counts"))
		err := s.ask(ctx, letters, counts)
		status.Letters = int(letters.Val())
		status.Refused, _ = strconv.Atoi(counts.Val()["refused"])
		status.Expired, _ = strconv.Atoi(counts.Val()["expired"])
		return err
	})
	return status, err
}

// Last is the place of a flow's newest letter; "" for none.
func (s *Store) Last(ctx context.Context, flow string) (last string, err error) {
	err = s.call(ctx, "list the dead letters of flow "+flow, func(ctx context.Context) error {
		entries := goredis.NewXMessageSliceCmd(ctx, "xrevrange", s.key(flow, "letters"), "+", "-", "count", 1)
		if err := s.ask(ctx, entries); err != nil {
			return err
		}
		if newest := entries.Val(); len(newest) > 0 {
			last = newest[0].ID
		}
		return nil
	})
	return last, err
}

// Page reads a flow's letters in the order in which they were kept: those behind the place after ("": from the first one), up
// to the place last ("": the newest), n of them at the most, and no more than 8 MiB together, unless one alone has more. next is
// the place to go on after; "": there are no more.
func (s *Store) Page(ctx context.Context, flow, after, last string, n int) (letters []*Letter, next string, err error) {
	err = s.call(ctx, "list the dead letters of flow "+flow, func(ctx context.Context) error {
		start := "-"
		if after != "" {
			start = "(" + after
		}
		keys := []string{s.key(flow, "letters"), s.key(flow, "changes")}
		end, err := s.run(ctx, pageScript, keys, start, cmp.Or(last, "+"), n, pageBytes).Text()
		if err != nil || end == "" {
			return err
		}
		entries := goredis.NewXMessageSliceCmd(ctx, "xrange", keys[0], start, end)
		if err := s.ask(ctx, entries); err != nil {
			return err
		}
		if letters, err = s.read(ctx, flow, entries.Val()); err == nil {
			next = end
		}
		return err
	})
	return letters, next, err
}

// Get finds letters of a flow by their ids, in that order. Those that are not there are left out. It reads no more than Page
// does: rest are the ids that it did not come to.
func (s *Store) Get(ctx context.Context, flow string, ids ...batch.StreamID) (letters []*Letter, rest []batch.StreamID, err error) {
	err = s.call(ctx, "find dead letters of flow "+flow, func(ctx context.Context) error {
		args := []any{pageBytes}
		for _, id := range ids[:min(len(ids), scriptLetters)] {
			args = append(args, id.String())
		}
		places, err := s.run(ctx, findScript, s.keys(flow), args...).StringSlice()
		if err != nil {
			return err
		}
		if len(places) > len(ids) || len(places) == 0 && len(ids) > 0 {
			return wrongNumber(len(places), len(ids))
		}
		var found []goredis.Cmder
		for _, place := range places {
			if place != "" {
				found = append(found, goredis.NewXMessageSliceCmd(ctx, "xrange", s.key(flow, "letters"), place, place))
			}
		}
		if err := s.ask(ctx, found...); err != nil {
			return err
		}
		var entries []goredis.XMessage
		for _, c := range found {
			entries = append(entries, c.(*goredis.XMessageSliceCmd).Val()...)
		}
		if letters, err = s.read(ctx, flow, entries); err == nil {
			rest = ids[len(places):]
		}
		return err
	})
	return letters, rest, err
}

// read makes letters of entries, as they are now.
func (s *Store) read(ctx context.Context, flow string, entries []goredis.XMessage) ([]*Letter, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	places := make([]string, len(entries))
	for i, e := range entries {
		places[i] = e.ID
	}
	changes, err := s.fields(ctx, s.key(flow, "changes"), places)
	if err != nil {
		return nil, err
	}
	letters := make([]*Letter, len(entries))
	ids := make([]string, len(entries))
	for i, e := range entries {
		text, _ := e.Values["letter"].(string)
		if changed, ok := changes[i].(string); ok {
			text = changed
		}
		if letters[i], err = decode(flow, text); err != nil {
			return nil, batch.Errorf(batch.CodeInternal, "entry %s of %s: %w: drop it with redis-cli", e.ID, s.key(flow, "letters"), err)
		}
		letters[i].place, letters[i].Kept = e.ID, timeOf(e.ID)
		ids[i] = letters[i].ID.String()
	}
	begun, err := s.fields(ctx, s.key(flow, "begun"), ids)
	if err != nil {
		return nil, err
	}
	for i, since := range begun {
		if since, ok := since.(string); ok {
			letters[i].Begun = timeOf(since)
		}
	}
	return letters, nil
}

// fields reads fields of a hash: a text for each, or nil for one that is not there.
func (s *Store) fields(ctx context.Context, key string, names []string) ([]any, error) {
	args := []any{"hmget", key}
	for _, name := range names {
		args = append(args, name)
	}
	found := goredis.NewSliceCmd(ctx, args...)
	if err := s.ask(ctx, found); err != nil {
		return nil, err
	}
	if n := len(found.Val()); n != len(names) {
		return nil, wrongNumber(n, len(names))
	}
	return found.Val(), nil
}

// Edit replaces a letter's row. What its redrives did so far does not count for the new row: it is another batch of the
// letter's stream. The error is CodeNotFound, CodeConflict while the flow is redriven, or CodeRowUndecodable for what is no
// JSON where the row is.
func (s *Store) Edit(ctx context.Context, flow string, id batch.StreamID, row []byte) (l *Letter, err error) {
	// A redrive that began meanwhile would run the row as it was, and then forget the letter with the new one.
	err = s.WithLock(ctx, flow, "edit "+batch.NewStreamID().String(), func(ctx context.Context) error {
		found, _, err := s.Get(ctx, flow, id)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return notFound(flow, id)
		}
		l = found[0]
		if (l.Encoding == "" || l.Encoding == batch.JSON) && !json.Valid(row) {
			var nothing any
			return batch.Errorf(batch.CodeRowUndecodable, "the row is no JSON, as that of letter %s is: %w", id, json.Unmarshal(row, &nothing))
		}
		l.Row, l.Edited = row, true
		l.Sequence++
		return s.Settle(ctx, flow, []Settlement{{ID: id, Stay: []*Letter{l}}})
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func notFound(flow string, id batch.StreamID) error {
	return batch.Errorf(batch.CodeNotFound, "flow %s has no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows those there are", flow, id)
}

// Settlement says how a redrive of a letter ended: it is no more, or others stay in its place. The letter may be among them.
type Settlement struct {
	ID   batch.StreamID
	Stay []*Letter
}

// Settle says how redrives ended. What is said of a letter that is not there any more does nothing.
func (s *Store) Settle(ctx context.Context, flow string, all []Settlement) error {
	const doing = "note how dead letters ended"
	for len(all) > 0 {
		var args []any
		n, size := 0, 0
		for ; n < min(len(all), scriptLetters) && size < scriptBytes; n++ {
			args = append(args, all[n].ID.String(), len(all[n].Stay))
			for _, l := range all[n].Stay {
				text, err := l.encode()
				if err != nil {
					return batch.Errorf(batch.CodeInternal, "%s: write letter %s: %w", doing, l.ID, err)
				}
				args = append(args, l.ID.String(), text)
				size += len(text)
			}
		}
		all = all[n:]
		if err := s.call(ctx, doing, func(ctx context.Context) error {
			return s.run(ctx, settleScript, s.keys(flow), args...).Err()
		}); err != nil {
			return err
		}
	}
	return nil
}

// Begin notes that redrives of letters begin, and sets their Begun: earlier than now for those of which a redrive was cut off.
// It returns those that are still there.
func (s *Store) Begin(ctx context.Context, flow string, letters []*Letter) ([]*Letter, error) {
	ids := make([]any, len(letters))
	for i, l := range letters {
		ids[i] = l.ID.String()
	}
	var since []int64
	err := s.call(ctx, "note that dead letters are redriven", func(ctx context.Context) (err error) {
		if since, err = s.run(ctx, beginScript, s.keys(flow), ids...).Int64Slice(); err == nil && len(since) != len(ids) {
			err = wrongNumber(len(since), len(ids))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	there := make([]*Letter, 0, len(letters))
	for i, l := range letters {
		if since[i] > 0 {
			l.Begun = time.UnixMilli(since[i])
			there = append(there, l)
		}
	}
	return there, nil
}

// Drop forgets letters, and counts those that were there.
func (s *Store) Drop(ctx context.Context, flow string, letters []*Letter) (n int, err error) {
	for some := range slices.Chunk(letters, scriptLetters) {
		ids := make([]any, len(some))
		for i, l := range some {
			ids[i] = l.ID.String()
		}
		err := s.call(ctx, "drop dead letters", func(ctx context.Context) error {
			gone, err := s.run(ctx, dropScript, s.keys(flow), ids...).Int()
			n += gone
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
