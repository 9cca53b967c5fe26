package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/coordinator/internal/flowstate"
	"github.com/kisgrid/kisgrid/pkg/expr"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// These are the limits of calls of Tap.
const (
	tapsAtOnce     = 16              // calls at the same time
	tapRows        = 100             // rows that are shown unless the caller says otherwise
	tapMostRows    = 10_000          // the most rows of one call
	tapBytes       = 32 << 20        // the most bytes of rows of one call
	tapTime        = time.Minute     // how long a call takes unless the caller says otherwise
	tapMostTime    = time.Hour       // the longest time of a call
	tapWhere       = 4096            // the most bytes of the caller's expression
	tapCountsPause = time.Second     // how often a call tells its counts
	tapQueue       = 16              // events that wait for a caller who does not read
	tapLast        = 5 * time.Second // how long the last events wait for the caller
)

// TapViewer gets what a Tap shows. Its methods are called by one goroutine. An error ends the tap.
type TapViewer interface {
	// Rows gets rows that have passed.
	Rows(rows []*pb.TappedRow) error
	// Note gets the state of a worker that shows no rows, in words; an empty text means that it does show rows. It is called again and again.
	Note(worker, text string) error
	// Counts gets the counts of all workers together. It is called again and again.
	Counts(c TapCount) error
}

// TapCount counts the rows of a tap: rows that have passed, those for which the expression was not true, and those for which it failed, which
// Unmatched counts too. Failure says why it failed for one of them. Workers is how many workers show rows.
type TapCount struct {
	Passed, Unmatched, Failed uint64
	Failure                   string
	Workers                   int
}

// Plus returns the sum of two counts.
func (c TapCount) Plus(d TapCount) TapCount {
	return TapCount{c.Passed + d.Passed, c.Unmatched + d.Unmatched, c.Failed + d.Failed, cmp.Or(d.Failure, c.Failure), c.Workers + d.Workers}
}

// Tap shows rows as they pass functions of a flow, until it has shown enough, its time is over, the flow does not run any more, or the caller has
// gone.
func (a *admin) Tap(in *pb.TapRequest, out pb.Admin_TapServer) error {
	return wire.Status(a.tap(in, out))
}

// tap does what Tap does. Its errors are not converted for gRPC yet.
func (a *admin) tap(in *pb.TapRequest, out pb.Admin_TapServer) error {
	ctx := out.Context()
	who := access.From(ctx)
	r, err := a.Board.Load().Runs(in.GetFlow(), who.Knows)
	if err != nil {
		return err
	}
	question, err := tapQuestion(in, r, who.Masks(in.GetFlow()))
	if err != nil {
		return err
	}
	select {
	case a.tapping <- struct{}{}:
		defer func() { <-a.tapping }()
	default:
		return &batch.Error{Code: batch.CodeOverloaded, RetryAfter: 5 * time.Second,
			Message: fmt.Sprintf("%d people look at rows through this coordinator already, which is the limit: try again later, or ask another coordinator", tapsAtOnce)}
	}
	a.Auditor.record(ctx, "tap rows", tapDetail(in), in.GetFlow())
	length := tapTime
	if ms := in.GetMilliseconds(); ms > 0 {
		length = min(time.Duration(min(ms, uint64(tapMostTime.Milliseconds())))*time.Millisecond, tapMostTime)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, length, errTapTime)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-a.Draining:
			end(errTapShutdown)
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer end(nil)
	v := &tapView{
		ctx: ctx, events: make(chan *pb.TapEvent, tapQueue), ended: make(chan error, 1), flow: in.GetFlow(), function: in.GetFunction(), board: a.Board,
		limit: uint64(min(cmp.Or(in.GetLimit(), tapRows), tapMostRows)), notes: map[string]string{}, revision: r.ID(),
		may: func() error { return a.mayTap(ctx, in.GetFlow(), question.GetMasks()) },
	}
	// Send to a caller that reads nothing returns only when this call has returned. So another goroutine sends, for which Run waits.
	a.Carriers.Go(func() { v.ended <- sendAll(out, v.events) })
	err = a.Rows.Tap(ctx, question, v)
	cause := context.Cause(ctx)
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), tapLast)
	defer cancelLast()
	v.ctx = last
	switch {
	case errors.Is(err, errTapOver):
		err = nil
	case errors.Is(cause, errTapTime):
		if err = v.over("time", fmt.Sprintf("the time of %s is over", length)); errors.Is(err, errTapOver) {
			err = nil
		}
	case errors.Is(cause, errTapShutdown), cause == nil && err == nil:
		_ = v.tellCounts() // an error says that the caller is gone
		err = errTapShutdown
	case cause != nil:
		err = batch.Errorf(batch.CodeCancelled, "the caller gave up: %w", cause)
	}
	close(v.events)
	select {
	case broken := <-v.ended:
		if err == nil {
			err = broken
		}
	case <-last.Done():
		if err == nil {
			err = batch.Errorf(batch.CodeDeadline, "the caller has read nothing for %s", tapLast)
		}
	}
	return err
}

// sendAll sends events to the caller of Tap until the channel is closed, or the call has ended.
func sendAll(out pb.Admin_TapServer, events <-chan *pb.TapEvent) error {
	for e := range events {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	return nil
}

// mayTap returns an error if the caller may not see rows of a flow any more, or other fields of them than before: masks are those that were hidden
// when the call began.
func (a *admin) mayTap(ctx context.Context, flow string, masks []string) error {
	if a.Identify == nil {
		return nil
	}
	who, err := a.Identify(ctx)
	if err == nil {
		err = who.Need(access.Rows, flow)
	}
	if err == nil && !slices.Equal(who.Masks(flow), masks) {
		err = batch.Errorf(batch.CodePermissionDenied, "your rights on flow %s have changed: tap again", flow)
	}
	return err
}

// Errors that end calls of Tap.
var (
	errTapTime     = batch.Errorf(batch.CodeDeadline, "the time of the tap is over")
	errTapOver     = errors.New("the tap is over") // the caller has been told why
	errTapShutdown = batch.Errorf(batch.CodeShutdown, "the coordinator ends: tap again at another one")
)

// tapQuestion makes the question to the workers of a request. The error says why the request can't be served.
func tapQuestion(in *pb.TapRequest, r *flowstate.Revision, masks []string) (*pb.Tap, error) {
	q := &pb.Tap{Flow: in.GetFlow(), Function: in.GetFunction(), Where: in.GetWhere(), Masks: masks}
	if err := hasFunction(r, in.GetFlow(), in.GetFunction()); err != nil {
		return nil, err
	}
	if n := len(in.GetWhere()); n > tapWhere {
		return nil, batch.Errorf(batch.CodeBadDocument, "the expression has %d bytes, over the limit of %d", n, tapWhere)
	}
	if in.GetWhere() != "" {
		scope := expr.NewScope(expr.Names{Row: expr.Any})
		if _, err := scope.Compile(expr.Source{Text: in.GetWhere(), Path: "where"}, expr.Bool); err != nil {
			return nil, batch.Errorf(batch.CodeBadDocument, "%w", err)
		}
	}
	if in.GetKey() == "" {
		return q, nil
	}
	switch {
	case r.ShardKey == "":
		return nil, batch.Errorf(batch.CodeBadDocument, "flow %s has no shard key: give an expression in place of the key", in.GetFlow())
	case access.MasksField(masks, r.ShardKey):
		return nil, batch.Errorf(batch.CodePermissionDenied, "the shard key %s of flow %s is hidden from you, so you can't look for one", r.ShardKey, in.GetFlow())
	}
	var err error
	q.HasKey = true
	q.Key, err = r.Keys.HashValue([]byte(in.GetKey()))
	return q, err
}

// hasFunction returns an error if a revision of a flow does not use a function; an empty name means all functions.
func hasFunction(r *flowstate.Revision, flow, function string) error {
	if function == "" || r.Has(function, 0) {
		return nil
	}
	return batch.Errorf(batch.CodeNotFound, "flow %s has no function %q in revision %d; it has %s", flow, function, r.Number, strings.Join(r.Steps(), ", "))
}

// tapDetail is what the audit log says of a tap. Key and expression have values of rows in them, so they are left out.
func tapDetail(in *pb.TapRequest) string {
	detail := "all functions"
	if in.GetFunction() != "" {
		detail = "function " + in.GetFunction()
	}
	if in.GetWhere() != "" {
		detail += ", rows of an expression"
	}
	if in.GetKey() != "" {
		detail += ", rows of one key"
	}
	return detail
}
