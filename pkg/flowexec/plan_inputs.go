package flowexec

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/decode"
	"github.com/kisgrid/kisgrid/pkg/flowexec/internal/rowjson"
	"github.com/kisgrid/kisgrid/pkg/kis"
)

// findInputs fills in how each step reads its rows (the Input of the steps). Compile calls it when all steps are known.
func (p *Plan) findInputs() {
	inputs := make([]*decode.Input, len(p.steps))
	for i, s := range p.steps {
		s.GetsAll, s.FaaS, s.PassesOn = s.form.Whole(), s.form == kis.FormFaaS, s.passesOn()
		s.CalledAgain = s.retries > 0 || s.form.Whole() && !p.unsharded ||
			s.form == kis.FormFaaS && s.mode == definition.ModeLoad && s.onMissing == definition.OnMissingWait
		inputs[i] = &s.Input
	}
	p.types.Compile(inputs)
}

// passesOn reports whether rows go on from the step as they came. It is true for functions with code that make no rows. It is also true for
// a Verify in KisFlow's shape, which is expected to pass its rows on with ActionDataReuse.
func (s *step) passesOn() bool {
	return s.code != nil && (s.out == nil || s.form == kis.FormFaaS && s.mode == definition.ModeVerify)
}

// findSets fills in step.sets of each declared Load: which fields of a row it sets, and as which type a later function reads each of them.
func (p *Plan) findSets() {
	for _, s := range p.steps {
		if s.load == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(s.load.Fields)) {
			set := decode.LoadedField{Name: name, From: s.load.Fields[name], As: s.load.Types[name]}
			if reader := p.readerOf(s, name); reader != nil {
				set.Reader, set.Read = reader, p.types.TextReader(reader.Type)
				s.sets.OwnCode = s.sets.OwnCode || p.types.HasOwnCode(reader.Type)
			}
			s.sets.Fields = append(s.sets.Fields, set)
		}
	}
}

// readerOf finds out as which Go type the rest of the flow reads a field that the declared Load of the step load sets. name is the field's
// JSON name. It returns the field of the row type of the first later function that reads it, or nil if no function does. A function that
// reads the field as any JSON leaves the choice to later functions, if it passes the field on. Jumps are not considered.
func (p *Plan) readerOf(load *step, name string) *rowjson.Field {
	for _, s := range p.steps[load.Index+1:] {
		drops := s.out != nil && s.form != kis.FormFaaS // a function in KisFlow's shape may pass on the rows that it got
		for _, in := range s.Types {
			f, ok := decode.FieldOf(in, name)
			if ok && f.Type.Kind() != reflect.Interface && f.Type != reflect.TypeFor[json.RawMessage]() {
				return &f
			}
			_, known := decode.FieldsOf(in)
			drops = drops && known && !ok
		}
		if drops || s.load != nil && s.load.Fields[name] != "" {
			return nil
		}
	}
	return nil
}
