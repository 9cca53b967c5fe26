//go:build linux

package once

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/internal/testgrid"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// row is a row that producers submit: the row number N of its key, from 1.
type row struct {
	Key  string `json:"key"`
	N    int    `json:"n"`
	Half int    `json:"half"` // 0 or 1, once Split has made two rows of one

	Filler string `json:"filler,omitempty"` // makes the row large
}

// register registers the functions of flow Once. Split makes two rows of each. Count counts and lists each of them. Again has the
// second one jump back to Count, once.
func register(r *kis.Registry) {
	r.Func("Split", kis.Expand(func(_ context.Context, in row, emit func(row)) error {
		for half := range 2 {
			in.Half = half
			emit(in)
		}
		return nil
	}))
	r.Func("Count", kis.Save(func(ctx context.Context, to kis.Writer, in row) error {
		visit := kis.From(ctx).RowID().Visit
		to.Incr("sum:"+in.Key, "rows", 1)
		to.Incr("sum:"+in.Key, "n", in.N)
		to.Append(fmt.Sprintf("list%d:%s", visit, in.Key), fmt.Sprintf("%d/%d", in.N, in.Half))
		return nil
	}))
	r.Func("Again", kis.Verify(func(ctx context.Context, in row) error {
		if in.Half == 1 && kis.From(ctx).RowID().Visit == 0 {
			return kis.Jump("Count")
		}
		return nil
	}))
}

// documents are the flow Once and its functions.
func documents() []definition.Document {
	return []definition.Document{
		testgrid.Document(definition.KindFlow, "Once", "status: 1\nshard_key: key\nflows: [{fname: Split}, {fname: Count}, {fname: Again}]\n"),
		testgrid.Document(definition.KindFunc, "Split", "fmode: Expand\n"),
		testgrid.Document(definition.KindFunc, "Count", "fmode: Save\noption: {cname: Store}\n"),
		testgrid.Document(definition.KindFunc, "Again", "fmode: Verify\n"),
	}
}

// badPrefix is the beginning of keys whose lists Redis refuses, because something else is saved under their names.
const badPrefix = "bad"

// producer is one client that submits batches one after the other, so that rows of a key keep their order, and some batches several
// times. It calls coordinators itself, not through pkg/client, so that it can send the same batch through two at a time.
type producer struct {
	id       int
	grid     *grid
	random   *rand.Rand
	stream   batch.StreamID
	keys     []string
	sent     map[string]int   // how many rows of each key were sent
	sequence uint64           // of the latest batch
	floor    uint64           // the lowest sequence that is not finished
	held     []*pb.Submission // batches to be sent once more later, oldest first
	resent   int              // how many batches were sent again
}

// newProducer makes a producer with forty good keys and a bad one.
func newProducer(g *grid, id int, seed uint64) *producer {
	p := &producer{id: id, grid: g, random: rand.New(rand.NewPCG(seed, uint64(id))), stream: batch.NewStreamID(), sent: make(map[string]int), floor: 1}
	for k := range 40 {
		p.keys = append(p.keys, fmt.Sprintf("%d-%d", id, k))
	}
	p.keys = append(p.keys, fmt.Sprintf("%s%d", badPrefix, id))
	return p
}

// produce submits as many rows as rows says, in batches of random sizes.
func (p *producer) produce(ctx context.Context, rows int) error {
	for rows > 0 {
		n := min(rows, 1+p.random.IntN(1000))
		rows -= n
		var c pb.Columns
		for range n {
			key := p.keys[p.random.IntN(len(p.keys))]
			p.sent[key]++
			text, err := json.Marshal(row{Key: key, N: p.sent[key]})
			if err != nil {
				return err
			}
			c.Data = append(c.Data, text...)
			c.Ends = append(c.Ends, uint32(len(c.Data)))
		}
		p.sequence++
		m := &pb.Submission{Sequence: p.sequence, Rows: &c}
		if err := p.submit(ctx, m); err != nil {
			return err
		}
	}
	return p.resendHeld(ctx, true)
}

// submit sends a batch until all of its rows are done. One batch in five it sends several times: through another coordinator at the
// same time, or once more later.
func (p *producer) submit(ctx context.Context, m *pb.Submission) error {
	m.Floor = p.floor
	again, at := p.random.IntN(5) == 0, p.random.IntN(len(p.grid.ingest))
	twin := make(chan error, 1)
	together := again && p.random.IntN(2) == 0
	if together {
		p.resent++
		go func() { twin <- p.finish(ctx, m.GetSequence(), at+1, clone(m)) }()
	} else {
		twin <- nil
	}
	err := p.finish(ctx, m.GetSequence(), at, m)
	if other := <-twin; err == nil {
		err = other
	}
	if err != nil {
		return err
	}
	if again && !together {
		p.held = append(p.held, m)
	}
	return p.resendHeld(ctx, false)
}

// resendHeld sends batches again that were held back for that, the oldest first: all of them if all is true, else one after the
// other, each with a chance of one in three, until one stays.
func (p *producer) resendHeld(ctx context.Context, all bool) error {
	for len(p.held) > 0 && (all || p.random.IntN(3) == 0) {
		p.resent++
		m := p.held[0]
		p.held = p.held[1:]
		if err := p.finish(ctx, m.GetSequence(), p.random.IntN(len(p.grid.ingest)), m); err != nil {
			return err
		}
	}
	p.floor = p.sequence + 1
	if len(p.held) > 0 {
		p.floor = p.held[0].GetSequence()
	}
	return nil
}

// clone is a copy of a submission, for another call at the same time.
func clone(m *pb.Submission) *pb.Submission {
	return &pb.Submission{Sequence: m.GetSequence(), Floor: m.GetFloor(), Revision: m.GetRevision(), Rows: m.GetRows()}
}

// finish submits a batch to one coordinator after the other until each of its rows is done, or is dead because Redis refused it.
func (p *producer) finish(ctx context.Context, sequence uint64, at int, m *pb.Submission) error {
	var last error
	for try := 0; ; try++ {
		if ctx.Err() != nil {
			return fmt.Errorf("producer %d, batch %d: %w; the last try ended with: %w", p.id, sequence, ctx.Err(), last)
		}
		bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
		answer, err := p.grid.ingest[(at+try)%len(p.grid.ingest)].Submit(bounded, &pb.SubmitRequest{Flow: "Once", Stream: p.stream[:], Submission: m})
		cancel()
		if err == nil {
			m.Revision = answer.GetAnswer().GetRevision()
			if err = wrong(answer.GetAnswer()); err == nil {
				return nil
			}
		}
		last = err
		time.Sleep(20 * time.Millisecond) // a cluster that starts, or that has lost a worker, gives no signal when it is ready
	}
}

// wrong returns the reason why a batch must be submitted again; nil means that each of its rows is done, or dead because Redis
// refused it.
func wrong(a *pb.Answer) error {
	if r := a.GetRefused(); r != nil {
		return fmt.Errorf("refused: %v", r)
	}
	for _, o := range a.GetNotDone() {
		if o.GetCode() != pb.Code_CODE_SAVE_FAILED || !strings.Contains(o.GetReason(), badPrefix) {
			return fmt.Errorf("row %d: %v", o.GetRow(), o)
		}
	}
	return nil
}
