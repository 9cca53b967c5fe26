package worker

import (
	"errors"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/internal/wire"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/flowexec"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// tapViewer is what a viewer may see, and wants to see, of the rows of a tap. Its methods are for the tap's goroutine, except compile.
type tapViewer struct {
	masks []string // fields that are null for the viewer
	// where is the expression of rows that the viewer wants, with its scope and its frame; all nil mean that it wants every row.
	where *expr.Program
	scope *expr.Scope
	frame *expr.Frame
}

// The most steps and bytes that a viewer's expression may use for one row.
const (
	tapSteps     = 20_000
	tapExprBytes = 256 << 10
)

// compile compiles the expression of rows that the viewer wants; empty means every row.
func (v *tapViewer) compile(where string) error {
	if where == "" {
		return nil
	}
	scope := expr.NewScope(expr.Names{Row: expr.Any})
	program, err := scope.Compile(expr.Source{Text: where, Path: "where"}, expr.Bool)
	if err != nil {
		return batch.Errorf(batch.CodeBadDocument, "%w", err)
	}
	v.where, v.scope, v.frame = program, scope, scope.NewFrame(expr.Budget{Steps: tapSteps, Bytes: tapExprBytes})
	return nil
}

// tapWish says whether a viewer wants a row.
type tapWish int

const (
	wanted   tapWish = iota
	unwanted         // the expression is false
	unread           // the expression can't be looked at, because nobody has the whole row
)

// wants reports whether the viewer wants a row. It looks at the row as it came to the function, without the fields that are hidden. The error
// says why the expression has no value for the row.
func (v *tapViewer) wants(row *flowexec.TappedRow) (tapWish, error) {
	if v.where == nil {
		return wanted, nil
	}
	text, withheld := v.text(&row.Before)
	if withheld != "" || len(row.Before.Data) < row.Before.Size {
		return unread, nil
	}
	v.frame.Next()
	if err := v.scope.ReadJSON(v.frame, text); err != nil {
		return unwanted, plain(err)
	}
	is, err := v.where.Bool(v.frame)
	switch {
	case err != nil:
		return unwanted, plain(err)
	case !is:
		return unwanted, nil
	}
	return wanted, nil
}

// plain returns an error of an expression without a place in a document, which the viewer's expression does not have.
func plain(err error) error {
	if failure, ok := errors.AsType[*expr.Failure](err); ok {
		return errors.New(failure.Message)
	}
	return err
}

// text returns a row as the viewer may see it, or why it is withheld.
func (v *tapViewer) text(t *flowexec.TappedText) (text, withheld string) {
	switch {
	case t.Withheld:
		return "", "its type has code of its own for JSON, which a tap does not run, or its encoding is not known at this function"
	case len(v.masks) == 0:
		return strings.ToValidUTF8(string(t.Data), "\uFFFD"), ""
	case len(t.Data) < t.Size:
		return "", "it is too large to hide fields in it"
	}
	masked, err := access.MaskJSON(t.Data, v.masks)
	if err != nil {
		return "", "it is no JSON, so nobody knows where its hidden fields are"
	}
	return strings.ToValidUTF8(string(masked), "\uFFFD"), ""
}

// show makes the message of a row. size is about how many bytes it has.
func (v *tapViewer) show(row *flowexec.TappedRow) (m *pb.TappedRow, size int) {
	m = &pb.TappedRow{
		Function: row.Function, Use: row.Use, Revision: row.Revision, Batch: wire.FromID(row.Batch), Row: row.Row, Path: row.Path, Visit: row.Visit,
		AtUnixMicroseconds: row.At.UnixMicro(), Before: v.message(&row.Before), Became: string(row.Became), To: row.To, Unchanged: row.Unchanged,
		More: uint32(row.More), OfBatch: row.OfBatch,
	}
	size = 100 + len(m.GetBefore().GetText())
	after := 0
	for i := range row.After {
		if after > 0 && after+len(row.After[i].Data) > tapAfterBytes {
			m.More += uint32(len(row.After) - i)
			break
		}
		text := v.message(&row.After[i])
		after += len(text.GetText()) + 10
		m.After = append(m.After, text)
	}
	if row.Became == flowexec.Ended {
		o := &row.Outcome
		m.Became, m.Code, m.Attempts = o.Outcome.String(), pb.Code(o.Code), o.Attempts
		if len(v.masks) == 0 {
			m.Reason = strings.ToValidUTF8(o.Reason, "\uFFFD")
		}
	}
	return m, size + after + len(m.GetReason())
}

// message makes the message of a row's text.
func (v *tapViewer) message(t *flowexec.TappedText) *pb.TappedText {
	text, withheld := v.text(t)
	m := &pb.TappedText{Text: text, Withheld: withheld}
	if withheld == "" && len(t.Data) < t.Size {
		m.CutFrom = uint32(t.Size)
	}
	return m
}

// addTap adds a tap to a flow, whose lanes know it from their next run on, now or when they start. The error says that there are too many.
func (f *flows) addTap(flow string, t *flowexec.Tap) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := 0
	for _, list := range f.taps {
		all += len(list)
	}
	switch {
	case len(f.taps[flow]) >= tapsPerFlow:
		return batch.Errorf(batch.CodeOverloaded, "%d people look at rows of flow %s in this worker already, which is the limit: try again later", tapsPerFlow, flow)
	case all >= tapsAtOnce:
		return batch.Errorf(batch.CodeOverloaded, "%d people look at rows in this worker already, which is the limit: try again later", tapsAtOnce)
	}
	f.setTaps(flow, append(slices.Clone(f.taps[flow]), t))
	return nil
}

// removeTap takes a tap off its flow. Runs that are under way may still copy rows for it.
func (f *flows) removeTap(flow string, t *flowexec.Tap) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setTaps(flow, slices.DeleteFunc(slices.Clone(f.taps[flow]), func(o *flowexec.Tap) bool { return o == t }))
}

// setTaps sets the taps of a flow. The caller holds f.mu, and does not change the list any more.
func (f *flows) setTaps(flow string, list []*flowexec.Tap) {
	if len(list) == 0 {
		delete(f.taps, flow)
	} else {
		f.taps[flow] = list
	}
	if of := f.byName[flow]; of != nil {
		of.lanes.Watch(list)
	}
}
