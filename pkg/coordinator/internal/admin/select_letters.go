package admin

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/access"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/deadletter"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Letters are selected in the goroutine of the call, page by page. No lock is held meanwhile, so that a search through many letters keeps nobody
// else waiting.

// deadPage is the most letters that are read from the store at a time.
const deadPage = 200

// selection is a filter for dead letters that has been checked. A letter is selected if it passes every field. An empty field, and a zero
// since or until, lets all letters pass; flows has the flows whose letters are looked at.
type selection struct {
	flows        []string
	chosen       bool                        // the filter has ids
	ids          map[string][]batch.StreamID // by flow, if chosen: the letters whose ids the filter has
	function     string
	code         batch.Code
	since, until time.Time
	stream       *batch.StreamID // the stream of the rows' batches; nil means any
	sequence     uint64          // the sequence of the rows' batch; 0 means any

	who     access.Caller // contents are searched as this caller sees them
	content letterContent
}

// selection checks a filter that a caller gave, and returns it as a selection. If the filter names no flow, the selection has all flows
// that have letters and on which the caller has the rights. If it names a flow on which the caller lacks one of them, there is an error.
// A filter that looks at the contents of rows needs the right to see rows, too. An id that no letter has is an error, with CodeNotFound.
func (a *admin) selection(ctx context.Context, store *deadletter.Store, f *pb.DeadFilter, rights ...access.Right) (*selection, error) {
	who := access.From(ctx)
	s := &selection{function: f.GetFunction(), code: batch.Code(f.GetCode()), who: who}
	if ms := f.GetSinceUnixMilliseconds(); ms != 0 {
		s.since = time.UnixMilli(ms)
	}
	if ms := f.GetUntilUnixMilliseconds(); ms != 0 {
		s.until = time.UnixMilli(ms)
	}
	var err error
	if s.stream, s.sequence, err = parseBatch(f.GetBatch()); err != nil {
		return nil, err
	}
	if s.content, err = contentOf(f); err != nil {
		return nil, err
	}
	if !s.content.empty() && !slices.Contains(rights, access.Rows) {
		rights = append(slices.Clone(rights), access.Rows)
	}
	if f.GetFlow() != "" {
		for _, r := range rights {
			if err := who.Need(r, f.GetFlow()); err != nil {
				return nil, err
			}
		}
		s.flows = []string{f.GetFlow()}
	} else {
		all, err := store.Flows(ctx)
		if err != nil {
			return nil, err
		}
		s.flows = slices.DeleteFunc(all, func(flow string) bool {
			return slices.ContainsFunc(rights, func(r access.Right) bool { return !who.May(r, flow) })
		})
	}
	return s, s.findIDs(ctx, store, f)
}

// parseBatch parses a stream, or a stream, a dash and a sequence. An empty text gives a nil stream.
func parseBatch(text string) (stream *batch.StreamID, sequence uint64, err error) {
	if text == "" {
		return nil, 0, nil
	}
	name, number, hasNumber := strings.Cut(text, "-")
	id, err := deadletter.ParseID(name)
	if err == nil && hasNumber {
		sequence, err = strconv.ParseUint(number, 10, 64)
	}
	if err != nil || hasNumber && sequence == 0 {
		return nil, 0, batch.Errorf(batch.CodeBadMessage, "%q is not the id of a batch: give the 32 hexadecimal digits of its stream, or these, a dash and the batch's number, as kisgrid dead list -o wide shows them", text)
	}
	return &id, sequence, nil
}

// shortest is the least number of digits of a short id.
const shortest = 6

// findIDs finds the letters whose ids, or beginnings of ids, the filter has, in the flows of the selection. They keep the filter's order.
func (s *selection) findIDs(ctx context.Context, store *deadletter.Store, f *pb.DeadFilter) error {
	s.ids = map[string][]batch.StreamID{}
	missing := map[batch.StreamID]bool{} // ids that have not been found yet
	var all []batch.StreamID
	for _, text := range f.GetIds() {
		if text == "*" {
			continue
		}
		s.chosen = true
		id, err := deadletter.ParseID(text)
		if err != nil {
			var found bool
			if id, found, err = s.findShort(ctx, store, text); err == nil && !found && !f.GetGone() {
				err = noLetter(text)
			}
			if err != nil {
				return err
			}
			if !found {
				continue
			}
		}
		if !missing[id] {
			missing[id], all = true, append(all, id)
		}
	}
	for _, flow := range s.flows {
		for rest := all; len(rest) > 0; {
			letters, next, err := store.Get(ctx, flow, rest...)
			if err != nil {
				return err
			}
			for _, l := range letters {
				s.ids[flow] = append(s.ids[flow], l.ID)
				delete(missing, l.ID)
			}
			rest = next
		}
	}
	for _, id := range all {
		if missing[id] && !f.GetGone() {
			return noLetter(id.String())
		}
	}
	return nil
}

// findShort returns the id that begins with text. found is false if there is none in the flows of the selection. Several are an error, with
// CodeConflict.
func (s *selection) findShort(ctx context.Context, store *deadletter.Store, text string) (id batch.StreamID, found bool, err error) {
	if len(text) < shortest || len(text) > 32 || strings.Trim(strings.ToLower(text), "0123456789abcdef") != "" {
		return id, false, batch.Errorf(batch.CodeNotFound, "%q is not the id of a letter: ids have 32 hexadecimal digits, of which the first %d are enough where no other id begins so; kisgrid dead list shows them", text, shortest)
	}
	var names []string
	for _, flow := range s.flows {
		ids, err := store.WithPrefix(ctx, flow, text, 3)
		if err != nil {
			return id, false, err
		}
		for _, id = range ids {
			names = append(names, id.String())
		}
	}
	if len(names) > 1 {
		slices.Sort(names)
		return id, false, batch.Errorf(batch.CodeConflict, "the ids of several letters begin with %s: %s: give more digits", text, strings.Join(names[:min(len(names), 3)], ", "))
	}
	return id, len(names) == 1, nil
}

// noLetter is the error, with CodeNotFound, for an id that no letter has which the caller may see.
func noLetter(id string) error {
	return batch.Errorf(batch.CodeNotFound, "there is no dead letter %s: it may have been redriven or dropped; kisgrid dead list shows those there are", id)
}

// matches reports whether a letter passes the selection. It does not look at flows and ids.
func (s *selection) matches(l *deadletter.Letter) bool {
	return (s.function == "" || s.function == l.Function) && (s.code == 0 || s.code == l.Code) &&
		(s.since.IsZero() || !l.Kept.Before(s.since)) && (s.until.IsZero() || l.Kept.Before(s.until)) &&
		(s.stream == nil || *s.stream == l.Origin.Batch.Stream && (s.sequence == 0 || s.sequence == l.Origin.Batch.Sequence)) &&
		s.matchesContent(l)
}

// matchesContent reports whether a letter has the contents that the selection asks for. It looks at the letter as the caller sees it: with the
// fields hidden that are hidden from the caller.
func (s *selection) matchesContent(l *deadletter.Letter) bool {
	if s.content.empty() {
		return true
	}
	seen := letterMessage(l)
	hide(s.who, seen)
	return s.content.in(seen)
}

// each calls f with the selected letters of a flow, page by page, in the order in which they were kept, or in the order of ids if the
// selection has some. A page may be empty. It stops at the first error and returns it.
func (s *selection) each(ctx context.Context, store *deadletter.Store, flow string, f func([]*deadletter.Letter) error) error {
	p := s.pages(store, flow)
	for {
		letters, more, err := p.next(ctx)
		if err != nil || !more {
			return err
		}
		if err := f(letters); err != nil {
			return err
		}
	}
}

// pages reads the letters of one flow that are selected, page by page.
type pages struct {
	selection *selection
	store     *deadletter.Store
	flow      string
	ids       []batch.StreamID // the selected ids whose letters have not been read yet
	after     string
	last      string // the store's position at which reading ends; empty means after the newest letter
	over      bool
}

// pages returns a pages that begins at the first selected letter of a flow. It reads nothing yet.
func (s *selection) pages(store *deadletter.Store, flow string) *pages {
	return &pages{selection: s, store: store, flow: flow, ids: s.ids[flow], over: s.chosen && len(s.ids[flow]) == 0}
}

// next reads the next page of selected letters, which may be empty. more is false if there was no further page to read, or after an error.
func (p *pages) next(ctx context.Context) (letters []*deadletter.Letter, more bool, err error) {
	if p.over {
		return nil, false, nil
	}
	if p.selection.chosen {
		letters, p.ids, err = p.store.Get(ctx, p.flow, p.ids...)
		p.over = len(p.ids) == 0
	} else {
		letters, p.after, err = p.store.Page(ctx, p.flow, p.after, p.last, deadPage)
		p.over = p.after == ""
	}
	return slices.DeleteFunc(letters, func(l *deadletter.Letter) bool { return !p.selection.matches(l) }), err == nil, err
}

// positionOf returns where a letter stands in the list of letters, for ListDeadRequest.after: its place in the store, a slash, and its flow.
func positionOf(l *deadletter.Letter) string {
	if l.Place() == "" {
		return ""
	}
	return l.Place() + "/" + l.Flow
}

// parsePosition takes a text of positionOf apart. An empty text gives an empty flow.
func parsePosition(text string) (flow, place string, err error) {
	if text == "" {
		return "", "", nil
	}
	place, flow, ok := strings.Cut(text, "/")
	if !ok || flow == "" || strings.Trim(place, "0123456789-") != "" || place == "" {
		return "", "", batch.Errorf(batch.CodeBadMessage, "%q is not the position of a dead letter: take it from the letter behind which the list goes on", text)
	}
	return flow, place, nil
}
