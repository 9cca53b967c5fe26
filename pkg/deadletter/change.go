package deadletter

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// Edit replaces a letter's row. The letter gets a new sequence, so its next redrive is another batch: effects of earlier redrives do not
// count for the new row. Edit holds the lock of the flow's letters. The error has CodeNotFound if there is no letter of this id,
// CodeConflict while the flow's letters are redriven, and CodeRowUndecodable if the old row is JSON and the new one is not.
func (s *Store) Edit(ctx context.Context, flow string, id batch.StreamID, row []byte) (l *Letter, err error) {
	// Without the lock, a redrive that begins meanwhile would run the old row, and then remove the letter with the new one.
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
			return batch.Errorf(batch.CodeRowUndecodable, "the row is no valid JSON, but the row of letter %s is: %w", id, json.Unmarshal(row, &nothing))
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

// notFound is the error, with CodeNotFound, for an id that no letter of the flow has.
func notFound(flow string, id batch.StreamID) error {
	return batch.Errorf(batch.CodeNotFound, "flow %s has no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows the letters of the flow", flow, id)
}

// Settlement says what becomes of a letter whose redrive has ended. The letter with the id ID is removed. The letters in Stay, if there
// are some, take its place; the same letter, changed, may be one of them.
type Settlement struct {
	ID   batch.StreamID
	Stay []*Letter
}

// Settle removes letters whose redrive has ended, and puts the letters in Stay in their places. A settlement for a letter that is not
// there any more does nothing. After an error some of the settlements may have been applied.
func (s *Store) Settle(ctx context.Context, flow string, all []Settlement) error {
	for len(all) > 0 {
		var args []any
		n, size := 0, 0
		for ; n < min(len(all), scriptLetters) && size < scriptBytes; n++ {
			args = append(args, all[n].ID.String(), len(all[n].Stay))
			for _, l := range all[n].Stay {
				id := l.ID.String()
				text := string(l.appendRecord(nil, id))
				args = append(args, id, text)
				size += len(text)
			}
		}
		all = all[n:]
		if err := s.operatorCall(ctx, "note how dead letters ended", func(ctx context.Context) error {
			return s.runScript(ctx, settleScript, s.keys(flow), args...).Err()
		}); err != nil {
			return err
		}
	}
	s.noteRoom(flow, true)
	return nil
}

// Begin notes that redrives of letters begin, and sets their field Begun. If an earlier redrive of a letter was cut off, Begun stays the
// time when that one began. Begin returns the letters that are still there.
func (s *Store) Begin(ctx context.Context, flow string, letters []*Letter) ([]*Letter, error) {
	ids := make([]any, len(letters))
	for i, l := range letters {
		ids[i] = l.ID.String()
	}
	var since []int64
	err := s.operatorCall(ctx, "note that dead letters are redriven", func(ctx context.Context) (err error) {
		if since, err = s.runScript(ctx, beginScript, s.keys(flow), ids...).Int64Slice(); err == nil && len(since) != len(ids) {
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
		} else {
			pointGoneMeanwhile.Hit()
		}
	}
	return there, nil
}

// Drop removes letters, without running their rows again. It returns how many of them were there.
func (s *Store) Drop(ctx context.Context, flow string, letters []*Letter) (n int, err error) {
	for some := range slices.Chunk(letters, scriptLetters) {
		ids := make([]any, len(some))
		for i, l := range some {
			ids[i] = l.ID.String()
		}
		err := s.operatorCall(ctx, "drop dead letters", func(ctx context.Context) error {
			gone, err := s.runScript(ctx, dropScript, s.keys(flow), ids...).Int()
			n += gone
			return err
		})
		if err != nil {
			return n, err
		}
	}
	s.noteRoom(flow, true)
	return n, nil
}
