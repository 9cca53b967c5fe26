package deadletter

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Flows returns the flows that have dead letters, or had some, sorted by name.
func (s *Store) Flows(ctx context.Context) ([]string, error) {
	var flows []string
	err := s.operatorCall(ctx, "list the flows that have dead letters", func(ctx context.Context) error {
		members := goredis.NewStringSliceCmd(ctx, "smembers", s.config.Prefix+"flows")
		err := s.send(ctx, members)
		flows = members.Val()
		return err
	})
	slices.Sort(flows)
	return flows, err
}

// Status counts the letters of one flow.
type Status struct {
	Flow    string
	Letters int
	Max     int
	MaxAge  time.Duration // negative means no limit
	// Refused counts dead rows that were not kept because the flow had Max letters. Expired counts letters that were forgotten because of
	// their age. Both count from the flow's first letter on.
	Refused, Expired int
}

// Status counts a flow's letters. Before that it removes the letters that are older than MaxAge.
func (s *Store) Status(ctx context.Context, flow string) (Status, error) {
	status := Status{Flow: flow, Max: s.config.Max, MaxAge: s.config.MaxAge}
	if err := s.expire(ctx, flow); err != nil {
		return status, err
	}
	s.tellRefused(ctx)
	err := s.operatorCall(ctx, "count the dead letters of flow "+flow, func(ctx context.Context) error {
		letters, counts := goredis.NewIntCmd(ctx, "xlen", s.key(flow, "letters")), goredis.NewMapStringStringCmd(ctx, "hgetall", s.key(flow, "counts"))
		err := s.send(ctx, letters, counts)
		status.Letters = int(letters.Val())
		status.Refused, _ = strconv.Atoi(counts.Val()["refused"])
		status.Expired, _ = strconv.Atoi(counts.Val()["expired"])
		return err
	})
	return status, err
}

// Last returns the place of a flow's newest letter, for Page; it is empty if the flow has no letters. The place of a letter is the id of
// its entry in the flow's Redis stream.
func (s *Store) Last(ctx context.Context, flow string) (last string, err error) {
	err = s.operatorCall(ctx, "list the dead letters of flow "+flow, func(ctx context.Context) error {
		entries := goredis.NewXMessageSliceCmd(ctx, "xrevrange", s.key(flow, "letters"), "+", "-", "count", 1)
		if err := s.send(ctx, entries); err != nil {
			return err
		}
		if newest := entries.Val(); len(newest) > 0 {
			last = newest[0].ID
		}
		return nil
	})
	return last, err
}

// Page returns a flow's letters in the order in which they were kept. after and last are places, as Last and Page return them. The page
// begins behind the place after; an empty after means that it begins with the first letter. It ends at the place last, which is included;
// an empty last means the newest letter. A page has at most n letters, and at most 8 MiB, unless a single letter is larger. next is the
// argument after for the next page; an empty next means that there are no more letters.
func (s *Store) Page(ctx context.Context, flow, after, last string, n int) (letters []*Letter, next string, err error) {
	err = s.operatorCall(ctx, "list the dead letters of flow "+flow, func(ctx context.Context) error {
		start := "-"
		if after != "" {
			start = "(" + after
		}
		keys := []string{s.key(flow, "letters"), s.key(flow, "changes")}
		end, err := s.runScript(ctx, pageScript, keys, start, cmp.Or(last, "+"), n, pageBytes).Text()
		if err != nil || end == "" {
			return err
		}
		entries := goredis.NewXMessageSliceCmd(ctx, "xrange", keys[0], start, end)
		if err := s.send(ctx, entries); err != nil {
			return err
		}
		if letters, err = s.read(ctx, flow, entries.Val()); err == nil {
			next = end
		}
		return err
	})
	return letters, next, err
}

// Get returns the letters of a flow with the given ids, in that order. Ids without a letter are left out. One call reads at most 500
// letters and at most 8 MiB, unless a single letter is larger. rest are the ids that it did not get to.
func (s *Store) Get(ctx context.Context, flow string, ids ...batch.StreamID) (letters []*Letter, rest []batch.StreamID, err error) {
	err = s.operatorCall(ctx, "find dead letters of flow "+flow, func(ctx context.Context) error {
		args := []any{pageBytes}
		for _, id := range ids[:min(len(ids), scriptLetters)] {
			args = append(args, id.String())
		}
		places, err := s.runScript(ctx, findScript, s.keys(flow), args...).StringSlice()
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
		if err := s.send(ctx, found...); err != nil {
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

// WithPrefix returns the ids of a flow's letters whose text begins with prefix: most of them at most, sorted. It asks Redis for the flow's ids
// piece by piece, so that no other request waits for long.
func (s *Store) WithPrefix(ctx context.Context, flow, prefix string, most int) (ids []batch.StreamID, err error) {
	pattern := strings.ToLower(prefix) + "*"
	if strings.Trim(pattern, "0123456789abcdef") != "*" {
		return nil, nil // Redis would take other characters for a pattern
	}
	found := map[batch.StreamID]bool{} // Redis may name a field twice
	for cursor, over := uint64(0), false; !over && len(found) < most; over = cursor == 0 {
		err := s.operatorCall(ctx, "find dead letters of flow "+flow, func(ctx context.Context) error {
			piece := goredis.NewScanCmd(ctx, nil, "hscan", s.key(flow, "index"), cursor, "match", pattern, "count", scanned)
			if err := s.send(ctx, piece); err != nil {
				return err
			}
			fields, next := piece.Val()
			cursor = next
			for i := 0; i < len(fields); i += 2 { // each with its entry
				id, err := ParseID(fields[i])
				if err != nil {
					return batch.Errorf(batch.CodeInternal, "the field %q of %s is not the id of a letter: remove it with redis-cli", fields[i], s.key(flow, "index"))
				}
				found[id] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	ids = slices.SortedFunc(maps.Keys(found), func(a, b batch.StreamID) int { return bytes.Compare(a[:], b[:]) })
	return ids[:min(len(ids), most)], nil
}

// scanned is about how many ids one request of WithPrefix makes Redis look at.
const scanned = 1000

// read makes letters of entries of a flow's Redis stream. It applies later changes of a letter (an edit, or another death of the row),
// and sets Kept and Begun.
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
			return nil, batch.Errorf(batch.CodeInternal, "entry %s of %s: %w: remove the entry with redis-cli", e.ID, s.key(flow, "letters"), err)
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

// fields reads fields of a Redis hash: a string for each, or nil for a field that does not exist.
func (s *Store) fields(ctx context.Context, key string, names []string) ([]any, error) {
	args := []any{"hmget", key}
	for _, name := range names {
		args = append(args, name)
	}
	found := goredis.NewSliceCmd(ctx, args...)
	if err := s.send(ctx, found); err != nil {
		return nil, err
	}
	if n := len(found.Val()); n != len(names) {
		return nil, wrongNumber(n, len(names))
	}
	return found.Val(), nil
}
