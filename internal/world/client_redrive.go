package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// redrive looks after the dead letters of the client's flow, while its rows last: it mends some rows, redrives letters, and does not always
// wait for the end of a redrive.
func (s *submitter) redrive(l *clientLife) {
	for !s.exhausted() && l.pause(max(s.c.Every, 2*time.Second)) {
		for _, letter := range s.deadLetters(l) {
			if s.chance(2) == 0 {
				s.mendLetter(l, letter)
			}
		}
		patience := 20 * time.Second
		if s.chance(2) == 0 {
			patience = time.Duration(1+s.chance(30)) * time.Millisecond // somebody presses Ctrl-C
		}
		_ = s.w.admin(l.net, s.w.coordinators(s.c.To), "dead redrive", s.c.Flow, patience, func(ctx context.Context, a pb.AdminClient) (string, error) {
			events, err := a.RedriveDead(ctx, &pb.RedriveDeadRequest{Filter: &pb.DeadFilter{Flow: s.c.Flow}})
			return drainEvents(events, err)
		}) // the call is noted
	}
}

// deadLetters returns some dead letters of the client's flow with their rows.
func (s *submitter) deadLetters(l *clientLife) (letters []*pb.DeadLetter) {
	const most = 20
	_ = s.w.admin(l.net, s.w.coordinators(s.c.To), "dead list", s.c.Flow, 10*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		events, err := a.ListDead(ctx, &pb.ListDeadRequest{Filter: &pb.DeadFilter{Flow: s.c.Flow}, Limit: most})
		for err == nil {
			var e *pb.DeadEvent
			if e, err = events.Recv(); e.GetLetter() != nil {
				letters = append(letters, e.GetLetter())
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return fmt.Sprint(len(letters), " letters"), err
	}) // the call is noted
	return letters
}

// mendLetter takes the instructions out of a letter's row, so that the row gets through when it is redriven. A row that was mended before,
// or can't be read, stays as it is.
func (s *submitter) mendLetter(l *clientLife, letter *pb.DeadLetter) {
	var row map[string]json.RawMessage
	if letter.GetEdited() || letter.GetEncoding() != "" && letter.GetEncoding() != batch.JSON || json.Unmarshal(letter.GetRow(), &row) != nil || row["do"] == nil {
		return
	}
	delete(row, "do")
	mended, err := json.Marshal(row)
	if err != nil {
		panic(err) // it was JSON
	}
	_ = s.w.admin(l.net, s.w.coordinators(s.c.To), "dead edit", letter.GetId(), 10*time.Second, func(ctx context.Context, a pb.AdminClient) (string, error) {
		_, err := a.EditDead(ctx, &pb.EditDeadRequest{Flow: letter.GetFlow(), Id: letter.GetId(), Row: mended})
		return fmt.Sprintf("%x/%d/%d", letter.GetBatch().GetStream(), letter.GetBatch().GetSequence(), letter.GetPlace()), err
	}) // the call is noted
}
