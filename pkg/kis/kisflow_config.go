package kis

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// FParam has the parameters of a function, by name.
type FParam = map[string]string

// FlowConfig is a flow's document as a struct. Package config has this and the other configurations under KisFlow's own names.
type FlowConfig struct {
	KisType  string              `yaml:"kistype"`
	Status   int                 `yaml:"status"` // 1 is on, 0 is off
	FlowName string              `yaml:"flow_name"`
	Flows    []FlowFunctionParam `yaml:"flows"`

	document *definition.Flow // the document that it was made from; nil if a program made it
}

// FlowFunctionParam is one entry in the list of a flow's functions: the name of the function, and the parameters that the flow gives it.
type FlowFunctionParam struct {
	FuncName string `yaml:"fname"`
	Params   FParam `yaml:"params"`
}

// AppendFunctionConfig adds a function to the end of the list in the configuration. It does not change the functions of a flow that was
// made with the configuration before.
func (c *FlowConfig) AppendFunctionConfig(params FlowFunctionParam) {
	c.Flows = append(c.Flows, params)
}

// FlowConfigOf makes the FlowConfig of a flow's document.
func FlowConfigOf(f *definition.Flow) *FlowConfig {
	c := &FlowConfig{KisType: string(definition.KindFlow), FlowName: f.Name, document: f}
	if f.Enabled {
		c.Status = 1
	}
	for _, function := range f.Functions {
		c.Flows = append(c.Flows, FlowFunctionParam{FuncName: function.Name, Params: maps.Clone(function.Params)})
	}
	return c
}

// Definition converts the configuration to a definition.Flow. A setting for which FlowConfig has no field is taken from the document
// that the configuration was made from; if there is none, it is zero.
func (c *FlowConfig) Definition() *definition.Flow {
	f := new(definition.Flow)
	if c.document != nil {
		*f = *c.document
	}
	f.Name, f.Enabled = c.FlowName, c.Status == 1
	before := f.Functions
	f.Functions = make([]definition.FlowFunction, len(c.Flows))
	for i, function := range c.Flows {
		f.Functions[i] = definition.FlowFunction{Name: function.FuncName, Params: function.Params}
		if i < len(before) && before[i].Name == function.FuncName {
			f.Functions[i].Line = before[i].Line
		}
	}
	return f
}

// Source says where the rows of a function come from: Name is a name for people to read, and Must lists the fields that each row must
// have.
type Source struct {
	Name string   `yaml:"name"`
	Must []string `yaml:"must"`
}

// FuncOption is what a function's document has under the key option: its connector, retries and parameters.
type FuncOption struct {
	CName         string `yaml:"cname"`           // the connector; "" means none
	RetryTimes    int    `yaml:"retry_times"`     // how often a failed call is tried again
	RetryDuration int    `yaml:"return_duration"` // pause before each retry, in milliseconds
	Params        FParam `yaml:"default_params"`
}

// FuncConfig is a function's document as a struct.
type FuncConfig struct {
	KisType string     `yaml:"kistype"`
	FName   string     `yaml:"fname"`
	FMode   string     `yaml:"fmode"`
	Source  Source     `yaml:"source"`
	Option  FuncOption `yaml:"option"`

	connector *ConnConfig
	document  *definition.Function // the document that it was made from; nil if a program made it
}

// FuncConfigOf makes the FuncConfig of a function's document. connector is the configuration of the function's connector; nil means that
// the function has none.
func FuncConfigOf(f *definition.Function, connector *ConnConfig) *FuncConfig {
	return &FuncConfig{
		KisType: string(definition.KindFunc), FName: f.Name, FMode: string(f.Mode),
		Source: Source{f.Source.Name, slices.Clone(f.Source.Must)},
		Option: FuncOption{
			CName: f.Connector, RetryTimes: f.RetryTimes, RetryDuration: milliseconds(f.RetryInterval), Params: maps.Clone(f.DefaultParams),
		},
		connector: connector, document: f,
	}
}

// AddConnConfig sets the function's connector. It also adds a Save or Load function to the connector's list Save or Load. A nil
// connector is an error.
func (c *FuncConfig) AddConnConfig(connector *ConnConfig) error {
	if connector == nil {
		return fmt.Errorf("give function %s a connector: it is nil", c.FName)
	}
	c.connector, c.Option.CName = connector, connector.CName
	if c.FMode == string(definition.ModeSave) || c.FMode == string(definition.ModeLoad) {
		return connector.WithFunc(c)
	}
	return nil
}

// GetConnConfig returns the configuration of the function's connector. It is an error if the function has none.
func (c *FuncConfig) GetConnConfig() (*ConnConfig, error) {
	if c.connector == nil {
		return nil, batch.Errorf(batch.CodeUnknownConnector, "function %s has no connector: give it one with AddConnConfig", c.FName)
	}
	return c.connector, nil
}

// Definition converts the configuration to a definition.Function. A setting for which FuncConfig has no field is taken from the document
// that the configuration was made from; if there is none, a Load waits definition.DefaultWait for a missing key, and other settings are
// zero.
func (c *FuncConfig) Definition() *definition.Function {
	f := &definition.Function{OnMissing: definition.OnMissingWait, Wait: definition.DefaultWait}
	if c.document != nil {
		*f = *c.document
	}
	f.Name, f.Mode = c.FName, definition.Mode(c.FMode)
	f.Source = definition.Source{Name: c.Source.Name, Must: c.Source.Must}
	f.Connector, f.RetryTimes, f.DefaultParams = c.Option.CName, c.Option.RetryTimes, c.Option.Params
	if milliseconds(f.RetryInterval) != c.Option.RetryDuration {
		f.RetryInterval = duration(c.Option.RetryDuration)
	}
	return f
}

// ConnConfig is a connector's document as a struct.
type ConnConfig struct {
	KisType    string            `yaml:"kistype"`
	CName      string            `yaml:"cname"`
	AddrString string            `yaml:"addrs"` // addresses, separated by commas
	Type       ConnType          `yaml:"type"`
	Key        string            `yaml:"key"` // the beginning of the keys in the store
	Params     map[string]string `yaml:"params"`
	// Load and Save list the functions that use the connector. KisGrid does not look at them.
	Load []string `yaml:"load"`
	Save []string `yaml:"save"`

	document *definition.Connector // the document that it was made from; nil if a program made it
}

// ConnType is the kind of store behind a connector, such as "redis".
type ConnType string

// ConnConfigOf makes the ConnConfig of a connector's document.
func ConnConfigOf(c *definition.Connector) *ConnConfig {
	return &ConnConfig{
		KisType: string(definition.KindConn), CName: c.Name, AddrString: strings.Join(c.Addrs, ","), Type: ConnType(c.Type), Key: c.Key,
		Params: maps.Clone(c.Params), Load: slices.Clone(c.Load), Save: slices.Clone(c.Save), document: c,
	}
}

// WithFunc adds the name of a Save or Load function to the list Save or Load, unless it is there already. A function of another mode is
// an error.
func (c *ConnConfig) WithFunc(f *FuncConfig) error {
	list := &c.Save
	switch definition.Mode(f.FMode) {
	case definition.ModeSave:
	case definition.ModeLoad:
		list = &c.Load
	default:
		return fmt.Errorf("connector %s: function %s is a %s: only Save and Load functions are listed", c.CName, f.FName, f.FMode)
	}
	if !slices.Contains(*list, f.FName) {
		*list = append(*list, f.FName)
	}
	return nil
}

// Definition converts the configuration to a definition.Connector. A setting for which ConnConfig has no field is taken from the
// document that the configuration was made from; if there is none, it is zero.
func (c *ConnConfig) Definition() *definition.Connector {
	d := new(definition.Connector)
	if c.document != nil {
		*d = *c.document
	}
	d.Name, d.Type, d.Key, d.Params, d.Load, d.Save = c.CName, string(c.Type), c.Key, c.Params, c.Load, c.Save
	if strings.Join(d.Addrs, ",") != c.AddrString {
		d.Addrs = nil
		for addr := range strings.SplitSeq(c.AddrString, ",") {
			if addr = strings.TrimSpace(addr); addr != "" {
				d.Addrs = append(d.Addrs, addr)
			}
		}
	}
	return d
}

// resolved returns the configuration with each ${NAME} in its values replaced by the value that lookup returns, and a list of these
// values, which are secrets. If nothing had to be replaced, it returns c itself. lookup's bool is false for a name that is not set.
func (c *ConnConfig) resolved(lookup func(string) (string, bool)) (*ConnConfig, []definition.Secret, error) {
	d := c.Definition()
	r, secrets, err := d.ResolveSecrets(lookup)
	if err != nil || reflect.DeepEqual(d, r) {
		return c, secrets, err
	}
	return ConnConfigOf(r), secrets, nil
}

// milliseconds converts a time.Duration to milliseconds, rounded down.
func milliseconds(d time.Duration) int { return int(d / time.Millisecond) }

// duration converts a number of milliseconds to a time.Duration.
func duration(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

// Document returns the configuration as a YAML document. If the configuration was made from a document and still says the same, it
// returns that document as it is. The error has the mistakes that definition.Parse finds in the document.
func (c *FlowConfig) Document() (definition.Document, error) {
	f := c.Definition()
	if c.document != nil && reflect.DeepEqual(f, c.document) {
		return f.Document, nil
	}
	return f.Marshal()
}

// Document returns the configuration as a YAML document. If the configuration was made from a document and still says the same, it
// returns that document as it is. The error has the mistakes that definition.Parse finds in the document.
func (c *FuncConfig) Document() (definition.Document, error) {
	f := c.Definition()
	if c.document != nil && reflect.DeepEqual(f, c.document) {
		return f.Document, nil
	}
	return f.Marshal()
}

// Document returns the configuration as a YAML document. If the configuration was made from a document and still says the same, it
// returns that document as it is. The error has the mistakes that definition.Parse finds in the document.
func (c *ConnConfig) Document() (definition.Document, error) {
	d := c.Definition()
	if c.document != nil && reflect.DeepEqual(d, c.document) {
		return d.Document, nil
	}
	return d.Marshal()
}
