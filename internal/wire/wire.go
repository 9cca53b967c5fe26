package wire

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kisgrid/kisgrid/pkg/batch"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// Protocol is the version of the wire protocol that this build speaks, between clients and coordinators as well as between
// coordinators and workers. Each peer says in its first message which versions it speaks. Where this version is not among
// them, the session ends with CodeProtocolMismatch.
const Protocol = 1

// maxReason bounds the text of a row's outcome, in bytes: the text may come from a user's function.
const maxReason = 1 << 10

// ToColumns converts the columns of a message, and shares their slices. It checks nothing: call Check on the result. nil
// gives no rows.
func ToColumns(c *pb.Columns) batch.Columns {
	return batch.Columns{Data: c.GetData(), Ends: c.GetEnds(), Keys: c.GetKeys(), Encoding: c.GetEncoding(), Positions: c.GetPositions()}
}

// FromColumns converts columns to a message, and shares their slices.
func FromColumns(c batch.Columns) *pb.Columns {
	return &pb.Columns{Data: c.Data, Ends: c.Ends, Keys: c.Keys, Encoding: c.Encoding, Positions: c.Positions}
}

// ToID converts and checks the id of a batch in a message. The error has CodeBadBatchID: the stream id does not have 16
// bytes, or the sequence is 0.
func ToID(id *pb.BatchID) (batch.ID, error) {
	stream, err := batch.StreamIDFrom(id.GetStream())
	if err != nil {
		return batch.ID{}, err
	}
	if id.GetSequence() == 0 {
		return batch.ID{}, batch.Errorf(batch.CodeBadBatchID, "batch of stream %s has sequence 0: a stream counts its batches from 1", stream)
	}
	return batch.ID{Stream: stream, Sequence: id.GetSequence()}, nil
}

// FromID converts the id of a batch to a message.
func FromID(id batch.ID) *pb.BatchID {
	return &pb.BatchID{Stream: id.Stream[:], Sequence: id.Sequence}
}

// ToRowOutcomes converts the outcomes of a part or batch that has this number of rows. The error has CodeBadMessage: a
// row does not exist, or has an outcome that can't be listed. Done is such an outcome, because rows that are done are not
// listed.
func ToRowOutcomes(in []*pb.RowOutcome, rows int) ([]batch.RowOutcome, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]batch.RowOutcome, len(in))
	for i, o := range in {
		if int64(o.GetRow()) >= int64(rows) {
			return nil, batch.Errorf(batch.CodeBadMessage, "the answer names row %d of %d rows: the peer is defective or of another build", o.GetRow(), rows)
		}
		if o.GetOutcome() <= pb.Outcome_OUTCOME_DONE || o.GetOutcome() > pb.Outcome_OUTCOME_FAILED {
			return nil, batch.Errorf(batch.CodeBadMessage, "the answer gives row %d the outcome %d, which is none of a row that is not done: the peer is defective or of another build",
				o.GetRow(), o.GetOutcome())
		}
		out[i] = batch.RowOutcome{
			Row: o.GetRow(), Outcome: batch.Outcome(o.GetOutcome()), Code: toCode(o.GetCode()),
			Function: o.GetFunction(), Reason: o.GetReason(), Attempts: o.GetAttempts(), Kept: o.GetKept(),
			NotKept: batch.NotKept(min(max(o.GetNotKept(), 0), math.MaxUint8)),
		}
		copy(out[i].Letter[:], o.GetLetter())
	}
	return out, nil
}

// FromRowOutcomes converts outcomes to messages. A reason is cut to 1 KiB and made valid UTF-8, since gRPC can't send a
// message with invalid text.
func FromRowOutcomes(in []batch.RowOutcome) []*pb.RowOutcome {
	if len(in) == 0 {
		return nil
	}
	messages := make([]pb.RowOutcome, len(in)) // one allocation for all
	out := make([]*pb.RowOutcome, len(in))
	for i := range in {
		o, m := &in[i], &messages[i]
		m.Row, m.Outcome, m.Code = o.Row, pb.Outcome(o.Outcome), pb.Code(o.Code)
		m.Function, m.Reason = cutText(o.Function, maxReason), cutText(o.Reason, maxReason)
		m.Attempts, m.Kept, m.NotKept = o.Attempts, o.Kept, pb.NotKept(o.NotKept)
		if o.Letter != (batch.StreamID{}) {
			m.Letter = o.Letter[:]
		}
		out[i] = m
	}
	return out
}

// ToDeadRows converts the dead rows of a part that has this number of rows, and shares their bytes. The error has
// CodeBadMessage: a row does not exist.
func ToDeadRows(in []*pb.DeadRow, rows int) ([]batch.DeadRow, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]batch.DeadRow, len(in))
	for i, d := range in {
		if int64(d.GetRow()) >= int64(rows) {
			return nil, batch.Errorf(batch.CodeBadMessage, "the result has dead row %d of %d rows: the peer is defective or of another build", d.GetRow(), rows)
		}
		out[i] = batch.DeadRow{
			Row: d.GetRow(), Function: d.GetFunction(), Use: d.GetUse(), Path: d.GetPath(), Visit: d.GetVisit(),
			Code: toCode(d.GetCode()), Reason: d.GetReason(), Attempts: d.GetAttempts(), Encoding: d.GetEncoding(), Data: d.GetData(),
		}
	}
	return out, nil
}

// FromDeadRows converts dead rows to messages, and shares their bytes. Reasons are cut as FromRowOutcomes does.
func FromDeadRows(in []batch.DeadRow) []*pb.DeadRow {
	if len(in) == 0 {
		return nil
	}
	out := make([]*pb.DeadRow, len(in))
	for i := range in {
		d := &in[i]
		out[i] = &pb.DeadRow{
			Row: d.Row, Function: cutText(d.Function, maxReason), Use: d.Use, Path: d.Path, Visit: d.Visit,
			Code: pb.Code(d.Code), Reason: cutText(d.Reason, maxReason), Attempts: d.Attempts, Encoding: d.Encoding, Data: d.Data,
		}
	}
	return out
}

// ToRanges converts ranges. The error has CodeBadMessage: a number in a range is not below limit. Ranges may overlap.
func ToRanges(in []*pb.Range, limit int) ([]batch.Range, error) {
	if len(in) == 0 {
		return nil, nil
	}
	out := make([]batch.Range, len(in))
	for i, r := range in {
		if uint64(r.GetFirst())+uint64(r.GetCount()) > uint64(limit) {
			return nil, batch.Errorf(batch.CodeBadMessage, "the message names %d from %d, beyond the limit of %d: the peer is defective or of another build",
				r.GetCount(), r.GetFirst(), limit)
		}
		out[i] = batch.Range{First: r.GetFirst(), Count: r.GetCount()}
	}
	return out, nil
}

// FromRanges converts ranges to messages.
func FromRanges(in []batch.Range) []*pb.Range {
	if len(in) == 0 {
		return nil
	}
	messages := make([]pb.Range, len(in))
	out := make([]*pb.Range, len(in))
	for i, r := range in {
		messages[i].First, messages[i].Count = r.First, r.Count
		out[i] = &messages[i]
	}
	return out
}

// ToOutput converts the output in a message, and shares its slices. rows is how many input rows there were. The error has
// CodeBadMessage: the columns are faulty, or an origin is neither the number of an input row nor batch.WholeBatch. nil
// gives no output.
func ToOutput(o *pb.Output, rows int) (batch.Output, error) {
	out := batch.Output{Rows: ToColumns(o.GetRows()), Origins: o.GetOrigins()}
	if len(out.Origins) != out.Rows.Len() {
		return batch.Output{}, batch.Errorf(batch.CodeBadMessage, "the output has %d origins for %d rows: the peer is defective or of another build", len(out.Origins), out.Rows.Len())
	}
	if out.Rows.Len() == 0 {
		return out, nil
	}
	unlimited := batch.Limits{RowBytes: math.MaxInt, BatchBytes: math.MaxInt, BatchRows: math.MaxInt}
	if err := out.Rows.Check(unlimited); err != nil {
		return batch.Output{}, batch.Errorf(batch.CodeBadMessage, "the output's columns: %w", err)
	}
	for _, origin := range out.Origins {
		if int64(origin) >= int64(rows) && origin != batch.WholeBatch {
			return batch.Output{}, batch.Errorf(batch.CodeBadMessage, "the output comes from row %d of %d rows: the peer is defective or of another build", origin, rows)
		}
	}
	return out, nil
}

// FromOutput converts output to a message, and shares its slices. It returns nil if there are no output rows.
func FromOutput(o batch.Output) *pb.Output {
	if o.Rows.Len() == 0 {
		return nil
	}
	return &pb.Output{Rows: FromColumns(o.Rows), Origins: o.Origins}
}

// toCode converts a code. It keeps a number that this build has no name for; a number that does not fit a batch.Code
// becomes CodeInternal.
func toCode(c pb.Code) batch.Code {
	if c < 0 || c > math.MaxUint16 {
		return batch.CodeInternal
	}
	return batch.Code(c)
}

// cutText makes s valid UTF-8, as a message needs, and cuts it to at most limit bytes, which must be 3 or more. A text that was
// cut ends with an ellipsis.
func cutText(s string, limit int) string {
	const cut = "…"
	s = strings.ToValidUTF8(s, "\uFFFD") // may make it longer, so it comes first
	if len(s) > limit {
		end := limit - len(cut)
		for end > 0 && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end] + cut
	}
	return s
}

// ToRevision converts the revision that a message names. A message of an old build has no digest. A digest of a wrong
// length is an error with CodeBadMessage.
func ToRevision(number int64, digest []byte) (batch.Revision, error) {
	r := batch.Revision{Number: number}
	switch len(digest) {
	case 0:
	case len(r.Digest):
		copy(r.Digest[:], digest)
	default:
		return r, batch.Errorf(batch.CodeBadMessage, "the digest of revision %d has %d bytes, not %d: the sender is defective", number, len(digest), len(r.Digest))
	}
	return r, nil
}

// FromDigest converts a digest; it returns nil where the digest is unknown.
func FromDigest(d batch.Digest) []byte {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

// maxDuration bounds the durations that Duration returns, because a much longer one would overflow a time.Time.
const maxDuration = 365 * 24 * time.Hour

// Duration converts milliseconds from a message. More than 365 days become 365 days.
func Duration(milliseconds uint64) time.Duration {
	return time.Duration(min(milliseconds, uint64(maxDuration/time.Millisecond))) * time.Millisecond
}

// Milliseconds converts a duration for a message; a negative one is 0.
func Milliseconds(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }
