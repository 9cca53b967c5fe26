package rowfile

import "github.com/kisgrid/kisgrid/internal/yamltext"

// DeclaredTypes returns the types that the document of a function declares as source.fields. It is nil if it declares none, or can't be read.
func DeclaredTypes(document []byte) Types {
	var function struct {
		Source struct {
			Fields map[string]any `yaml:"fields"`
		} `yaml:"source"`
	}
	if yamltext.Unmarshal(document, &function) != nil || len(function.Source.Fields) == 0 {
		return nil
	}
	types := Types{}
	for field, of := range function.Source.Fields {
		text, ok := of.(string)
		if !ok { // a list, or an object
			text = "{}"
		}
		types[field] = ParseType(text)
	}
	return types
}

// FlowTypes returns the types of the fields of a flow's rows. document is the flow's document. The first function of the flow that has a field
// tells its type: its document, which declared returns, or the row type that a worker names for the function, which described returns. Both
// functions return nothing for a function that is not known. The result is empty if no function tells anything.
func FlowTypes(document []byte, declared func(function string) []byte, described func(function string) string) Types {
	var flow struct {
		Flows []struct {
			Name string `yaml:"fname"`
		} `yaml:"flows"`
	}
	types := Types{}
	if yamltext.Unmarshal(document, &flow) != nil {
		return types
	}
	for _, f := range flow.Flows {
		types.Add(DeclaredTypes(declared(f.Name)))
		if row, err := ParseTypes(described(f.Name)); err == nil {
			types.Add(row)
		}
	}
	return types
}

// Add adds the types of fields that t does not have.
func (t Types) Add(others Types) {
	for field, other := range others {
		if _, ok := t[field]; !ok {
			t[field] = other
		}
	}
}
