package flowexec

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/kisgrid/kisgrid/pkg/expr"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// callRaw does the work of Call for rows that stay JSON: because an expression reads the row as a whole, or passes other fields on.
func (c *exprCode) callRaw(f *kis.Frame, fr *exprFrame, i int) error {
	row := f.In[0].(*kis.Vec[json.RawMessage]).Rows[i]
	if err := c.json(fr, string(row)); err != nil {
		return err
	}
	switch c.form {
	case kis.FormVerify:
		return c.passes(fr)
	case kis.FormCalculate:
		made, err := c.makeRaw(fr, row)
		f.Out.(*kis.Vec[json.RawMessage]).Rows[i] = made
		return err
	}
	list, err := c.each.Value(fr.Frame)
	if err != nil {
		return err
	}
	out := f.Out.(*kis.Vec[json.RawMessage])
	start, parents := len(out.Rows), len(f.Parents)
	for _, item := range list.Elements() {
		made, keep, err := c.makeItem(fr, item)
		if err != nil {
			out.Rows, f.Parents = out.Rows[:start], f.Parents[:parents]
			return err
		}
		if keep {
			out.Rows, f.Parents = append(out.Rows, made), append(f.Parents, uint32(i))
		}
	}
	return nil
}

// makeItem makes the row of one element of an Expand. keep is false for an element that where leaves out.
func (c *exprCode) makeItem(fr *exprFrame, item expr.Value) (made []byte, keep bool, err error) {
	if c.item >= 0 {
		fr.Set(c.item, item)
	}
	if c.where != nil {
		if keep, err = c.where.Bool(fr.Frame); err != nil || !keep {
			return nil, false, err
		}
	}
	if c.record != nil {
		made, err = c.record.AppendJSON(fr.room(), fr.Frame)
	} else {
		made, err = fr.AppendJSON(fr.room(), item)
	}
	if err != nil {
		return nil, false, err
	}
	return fr.cut(made), true, nil
}

// makeRaw makes the row of a Calculate: the fields of the record, and then those of the row that are kept, byte for byte.
func (c *exprCode) makeRaw(fr *exprFrame, row []byte) ([]byte, error) {
	made, err := c.record.AppendJSON(fr.room(), fr.Frame)
	if err != nil {
		return nil, err
	}
	made = made[:len(made)-1]
	err = expr.EachField(string(row), func(name, value string) {
		same := func(f expr.RecordField) bool { return strings.EqualFold(f.Name, name) } // as encoding/json finds fields
		if slices.ContainsFunc(c.record.Fields(), same) || !c.keepAll && !slices.Contains(c.keep, name) {
			return
		}
		if len(made) > 1 {
			made = append(made, ',')
		}
		quoted, _ := json.Marshal(name)
		made = append(append(append(made, quoted...), ':'), value...)
	})
	if err != nil {
		return nil, err
	}
	return fr.cut(append(made, '}')), nil
}
