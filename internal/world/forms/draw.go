package forms

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/kisgrid/kisgrid/internal/world/scenario"
)

// Drawn is a row that was made for a client.
type Drawn struct {
	Row  Row
	Text []byte // the row as JSON; for a bad row, text that is no row
	Bad  bool   // the text does not decode
	// NoKey says that the text has no shard key, or null. Miss says that nobody saves the key that the row's Load waits for. Late says
	// that somebody else saves the key after some time.
	NoKey, Miss, Late bool
}

// Drawer makes the rows of one client.
type Drawer struct {
	client scenario.Client
	form   *Form
	rng    *rand.Rand
	stages []string // the stages that carry out actions
	n      int
}

// NewDrawer makes a Drawer for the rows of a client to a flow of a form. rng is the client's own.
func NewDrawer(c scenario.Client, form *Form, rng *rand.Rand) *Drawer {
	d := &Drawer{client: c, form: form, rng: rng}
	for _, s := range form.Steps {
		if !s.Declared || s.Expressions != "" {
			d.stages = append(d.stages, s.Stage)
		}
	}
	return d
}

// Next makes the next row.
func (d *Drawer) Next() Drawn {
	c := &d.client
	n := d.n
	d.n++
	key := n
	if c.Keys > 0 {
		key = d.rng.IntN(c.Keys)
	}
	if c.Hot > 0 && d.rng.IntN(100) < c.Hot {
		key = 0
	}
	out := Drawn{Row: Row{Key: "k" + strconv.Itoa(key), N: n}}
	r := &out.Row
	if c.Pad > 0 {
		r.Pad = pad(d.rng.IntN(c.Pad + 1))
	}
	d.spoil(&out)
	r.Alt = Alt(r.Key)
	switch {
	case out.Bad:
		out.Text = []byte([]string{`{"key":"bad","n":`, `[1,2]`, `"text"`, `{"key":"bad","n":"seven"}`}[d.rng.IntN(4)])
	case out.NoKey && d.rng.IntN(2) == 0:
		out.Text = fmt.Appendf(nil, `{"key":null,"n":%d}`, n)
	case out.NoKey:
		out.Text = fmt.Appendf(nil, `{"n":%d}`, n)
	default:
		out.Text = appendRow(nil, r)
	}
	return out
}

// Alt returns the field Alt of rows with a key.
func Alt(key string) string { return "a" + key[len(key)-1:] }

// appendRow writes a row as JSON.
func appendRow(to []byte, r *Row) []byte {
	if r.Tags == nil && r.Found == nil && r.Part == 0 {
		to = fmt.Appendf(to, `{"key":"%s","alt":"%s","n":%d`, r.Key, r.Alt, r.N)
		if r.Do != "" {
			to = fmt.Appendf(to, `,"do":"%s"`, r.Do)
		}
		if r.Pad != "" {
			to = fmt.Appendf(to, `,"pad":"%s"`, r.Pad)
		}
		return append(to, '}')
	}
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // a Row has nothing that JSON can't hold
	}
	return append(to, text...)
}

// spoil makes one row in some an unusual one, as the client's Mix says.
func (d *Drawer) spoil(out *Drawn) {
	m := &d.client.Mix
	at := d.rng.IntN(1000)
	hit := func(perThousand int) bool {
		at -= perThousand
		return at < 0 && at >= -perThousand
	}
	stage := d.stages[d.rng.IntN(len(d.stages))]
	r, do := &out.Row, ""
	small, wide := d.rng.IntN(10), d.rng.IntN(10)
	switch {
	case hit(m.Bad):
		out.Bad = true
	case hit(m.Huge):
		r.Pad = pad([]int{100 << 10, 300 << 10, 700 << 10, 1<<20 - 200, 1<<20 + 10}[small/2])
	case hit(m.Panic):
		do = "panic"
	case hit(m.Error):
		do = "error"
	case hit(m.Retry):
		do = "error:" + strconv.Itoa(1+small%3)
	case hit(m.Slow):
		do = []string{"slow:", "sleep:"}[small%2] + strconv.Itoa(1+d.rng.IntN(300)*(1+wide)) + "ms"
	case hit(m.Hang):
		do = "hang"
	case hit(m.Block):
		do = "block"
	case hit(m.Odd):
		do = "odd"
	case hit(m.Misfit):
		if s := d.form.Step("save"); s != nil && !s.Declared && !s.Last { // else a later row may load what a refused one has set
			stage, do = s.Stage, "misfit"
		}
	case hit(m.Drop):
		do = "drop"
	case hit(m.Abort):
		do = "abort"
	case hit(m.Grow):
		switch s := d.form.Step("expand"); {
		case s != nil && small > 0:
			stage, do = s.Stage, "grow:"+strconv.Itoa([]int{2, 10, 100, 1000, 5}[wide/2])
		case d.form.Step("calculate") != nil:
			stage, do = "calculate", "wide:"+strconv.Itoa(1000*(1+wide*wide))
		}
	case hit(m.Mutate):
		do, r.Tags = "mutate", []int{r.N}
	case hit(m.Jump):
		if d.form.Jumps {
			stage, do = "calculate", "jump"
		}
	case hit(m.Lose):
		if d.form.Name == "lost" {
			stage, do = "batch", "lose"
		}
	case hit(m.Poison):
		do = "poison"
	case hit(m.NoKey):
		out.NoKey = true
	case hit(m.Miss):
		if d.form.LoadsOther {
			r.Key, out.Miss = "miss"+strconv.Itoa(small), true
		}
	case hit(m.Late):
		if d.form.LoadsOther {
			r.Key, out.Late = "late"+strconv.Itoa(r.N), true
		}
	case hit(m.Busy):
		do = "slow:" + strconv.Itoa((1+2*small)*(1+wide/2)) + "ms"
	}
	if do != "" {
		if s := d.form.Step(stage); s.Expressions != "" && !s.Computes(ParseActions(stage + "=" + do)[0]) {
			stage = d.form.Steps[0].Stage
		}
		r.Do = stage + "=" + do
	}
}

// PadMark stands in every pad of 26 bytes or more, and nowhere else: a message that has it shows a row's content.
const PadMark = "klmnopqrstuvwxyz"

// pads is the text that pads are cut from.
var pads = strings.Repeat("abcdefghijklmnopqrstuvwxyz012345", (1<<20+64)/32)

// pad returns a text of n bytes, at most a little over 1 MiB.
func pad(n int) string { return pads[:min(n, len(pads))] }
