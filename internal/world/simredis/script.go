package simredis

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	"encoding/hex"
	"errors"
	"math"
	"strconv"
	"strings"

	luajson "github.com/alicebob/miniredis/v2/gopher-json"
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// interpreter runs scripts in the language Lua. All scripts share one state of the language, as in Redis; making one takes longer than most
// scripts. Redis.mu guards it.
type interpreter struct {
	engine  *engine
	state   *lua.LState               // nil before the first script
	known   map[string]*lua.LFunction // by the name that Redis gives to the script
	view    view                      // of the client whose script runs
	failure *failure                  // the newest command that ended a script
}

// failure is the error of a command that ended a script.
type failure struct{ text, line string }

// maxStack is the limit for the values on the stack of Lua.
const maxStack = 1 << 20

// The answers about scripts.
const (
	noScript     = "NOSCRIPT No matching script. Please use EVAL."
	notInScripts = "ERR This Redis command is not allowed from script"
)

// start makes the state of the language.
func (i *interpreter) start() {
	i.known = map[string]*lua.LFunction{}
	i.state = lua.NewState(lua.Options{SkipOpenLibs: true, RegistryMaxSize: maxStack})
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable, lua.StringLibName: lua.OpenString, lua.MathLibName: lua.OpenMath,
	} {
		i.state.Push(i.state.NewFunction(open))
		i.state.Push(lua.LString(name))
		i.state.Call(1, 0)
	}
	i.state.Push(i.state.NewFunction(luajson.Loader))
	i.state.Call(0, 1)
	i.state.SetGlobal("cjson", i.state.Get(-1))
	i.state.Pop(1)
	i.state.SetGlobal("bit", i.state.SetFuncs(i.state.NewTable(), map[string]lua.LGFunction{"band": bitAnd}))
	i.state.SetGlobal("redis", i.state.SetFuncs(i.state.NewTable(), map[string]lua.LGFunction{
		"call": i.call, "pcall": i.pcall, "error_reply": errorReply, "status_reply": statusReply, "sha1hex": sha1Hex,
		"replicate_commands": func(l *lua.LState) int { l.Push(lua.LTrue); return 1 },
	}))
	protect := i.state.NewTable()
	protect.RawSetString("__newindex", i.state.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to create global variable '%s'", l.CheckString(2))
		return 0
	}))
	protect.RawSetString("__index", i.state.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to access nonexistent global variable '%s'", l.CheckString(2))
		return 0
	}))
	i.state.SetMetatable(i.state.G.Global, protect)
}

// close ends the interpreter.
func (i *interpreter) close() {
	if i.state != nil {
		i.state.Close()
	}
}

// answer carries out EVAL, EVALSHA or SCRIPT.
func (i *interpreter) answer(v view, name string, args []string) []byte {
	if i.state == nil {
		i.start()
	}
	i.view = v
	if name == "SCRIPT" {
		return i.scriptCommand(args)
	}
	if len(args) < 2 {
		return appendError(nil, "ERR wrong number of arguments for '"+strings.ToLower(name)+"' command")
	}
	n, err := strconv.Atoi(args[1])
	switch {
	case err != nil:
		return appendError(nil, "ERR value is not an integer or out of range")
	case n < 0:
		return appendError(nil, "ERR Number of keys can't be negative")
	case n > len(args)-2:
		return appendError(nil, "ERR Number of keys can't be greater than number of args")
	}
	sha := strings.ToLower(args[0])
	script := i.known[sha]
	if name == "EVAL" {
		if sha, script, err = i.compile(args[0]); err != nil {
			return appendError(nil, "ERR Error compiling script (new function): "+line(err.Error()))
		}
	}
	if script == nil {
		return appendError(nil, noScript)
	}
	return i.run(sha, script, args[2:2+n], args[2+n:])
}

// scriptCommand carries out SCRIPT.
func (i *interpreter) scriptCommand(args []string) []byte {
	switch what := strings.ToUpper(strings.Join(args[:min(1, len(args))], "")); {
	case what == "LOAD" && len(args) == 2:
		sha, _, err := i.compile(args[1])
		if err != nil {
			return appendError(nil, "ERR Error compiling script (new function): "+line(err.Error()))
		}
		return appendBulk(nil, sha)
	case what == "EXISTS" && len(args) > 1:
		b := appendLength(nil, '*', len(args)-1)
		for _, sha := range args[1:] {
			there := 0
			if i.known[sha] != nil {
				there = 1
			}
			b = appendLength(b, ':', there)
		}
		return b
	case what == "FLUSH":
		i.known = map[string]*lua.LFunction{}
		return []byte(ok)
	}
	return appendError(nil, "ERR unknown subcommand or wrong number of arguments for '"+strings.Join(args, " ")+"'. Try SCRIPT HELP.")
}

// compile makes a script known.
func (i *interpreter) compile(source string) (sha string, script *lua.LFunction, err error) {
	sha = shaOf(source)
	if script = i.known[sha]; script != nil {
		return sha, script, nil
	}
	chunk, err := parse.Parse(strings.NewReader(source), "user_script")
	if err != nil {
		return "", nil, err
	}
	proto, err := lua.Compile(chunk, "user_script")
	if err != nil {
		return "", nil, err
	}
	script = i.state.NewFunctionFromProto(proto)
	i.known[sha] = script
	return sha, script, nil
}

// run runs a script, and returns its answer.
func (i *interpreter) run(sha string, script *lua.LFunction, keys, args []string) []byte {
	l := i.state
	l.G.Global.RawSetString("KEYS", list(l, keys))
	l.G.Global.RawSetString("ARGV", list(l, args))
	i.failure = nil
	l.SetTop(0)
	l.Push(script)
	if err := l.PCall(0, 1, nil); err != nil {
		l.SetTop(0)
		if f := i.failure; f != nil {
			return appendError(nil, f.text+" script: "+sha+", on @user_script:"+f.line+".")
		}
		said := err.Error()
		if api, ok := errors.AsType[*lua.ApiError](err); ok {
			if t, ok := api.Object.(*lua.LTable); ok {
				return appendError(nil, line(t.RawGetString("err").String())+" script: "+sha+", on @user_script:1.")
			}
			said = api.Object.String()
		}
		text, number := line(said), "1"
		if rest, ok := strings.CutPrefix(text, "user_script:"); ok {
			number, _, _ = strings.Cut(rest, ":")
		}
		return appendError(nil, "ERR "+text+" script: "+sha+", on @user_script:"+number+".")
	}
	answer := answerOf(nil, l.Get(-1))
	l.SetTop(0)
	return answer
}

// list makes a table of texts.
func list(l *lua.LState, texts []string) *lua.LTable {
	t := l.CreateTable(len(texts), 0)
	for n, text := range texts {
		t.RawSetInt(n+1, lua.LString(text))
	}
	return t
}

// line returns a text as one line, as errors are sent.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

// shaOf is the name that Redis gives to a script.
func shaOf(script string) string {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// call is redis.call: an error ends the script.
func (i *interpreter) call(l *lua.LState) int {
	result := i.give(l)
	if t, ok := result.(*lua.LTable); ok {
		if text, ok := t.RawGetString("err").(lua.LString); ok {
			where := strings.Split(l.Where(1), ":")
			i.failure = &failure{string(text), where[min(1, len(where)-1)]}
			l.Error(t, 1)
		}
	}
	l.Push(result)
	return 1
}

// pcall is redis.pcall: it returns an error as a table with the field err.
func (i *interpreter) pcall(l *lua.LState) int {
	l.Push(i.give(l))
	return 1
}

// give carries out the command on the stack, and returns its result.
func (i *interpreter) give(l *lua.LState) lua.LValue {
	n := l.GetTop()
	if n == 0 {
		return failed(l, "ERR Please specify at least one argument for this redis lib call")
	}
	words := make([]string, n)
	for at := range words {
		switch v := l.Get(at + 1).(type) {
		case lua.LNumber:
			words[at] = numberText(float64(v))
		case lua.LString:
			words[at] = string(v)
		default:
			return failed(l, "ERR Lua redis lib command arguments must be strings or integers")
		}
	}
	name := strings.ToUpper(words[0])
	switch name {
	case "EVAL", "EVALSHA", "SCRIPT", "MULTI", "EXEC", "DISCARD", "SUBSCRIBE", "UNSUBSCRIBE", "AUTH", "HELLO", "SELECT", "WAIT", "CLIENT", "CONFIG", "QUIT":
		return failed(l, notInScripts)
	}
	answer := i.engine.command(i.view, true, name, words[1:])
	result, _ := valueOf(l, answer)
	return result
}

// numberText writes a number as Redis does for a command of a script.
func numberText(n float64) string {
	if n == math.Trunc(n) && math.Abs(n) < 1e17 {
		return strconv.FormatInt(int64(n), 10)
	}
	return strconv.FormatFloat(n, 'g', 17, 64)
}

// failed makes the table that stands for an error.
func failed(l *lua.LState, text string) lua.LValue {
	t := l.CreateTable(0, 1)
	t.RawSetString("err", lua.LString(text))
	return t
}

// valueOf makes a value of the language of an answer. rest is the answer's bytes behind it.
func valueOf(l *lua.LState, answer []byte) (value lua.LValue, rest []byte) {
	end := 1
	for answer[end] != '\r' {
		end++
	}
	head, rest := answer[1:end], answer[end+2:]
	switch answer[0] {
	case '+':
		t := l.CreateTable(0, 1)
		t.RawSetString("ok", lua.LString(head))
		return t, rest
	case '-':
		return failed(l, string(head)), rest
	case '_':
		return lua.LFalse, rest
	}
	n := 0
	sign := 1
	for _, c := range head {
		if c == '-' {
			sign = -1
			continue
		}
		n = 10*n + int(c-'0')
	}
	n *= sign
	switch {
	case answer[0] == ':':
		return lua.LNumber(n), rest
	case n < 0:
		return lua.LFalse, rest
	case answer[0] == '$':
		return lua.LString(rest[:n]), rest[n+2:]
	}
	if answer[0] == '%' {
		n *= 2
	}
	t := l.CreateTable(n, 0)
	for at := range n {
		value, rest = valueOf(l, rest)
		t.RawSetInt(at+1, value)
	}
	return t, rest
}

// answerOf appends the answer that a script's result makes.
func answerOf(b []byte, value lua.LValue) []byte {
	switch v := value.(type) {
	case lua.LBool:
		if v {
			return appendLength(b, ':', 1)
		}
	case lua.LNumber:
		return appendLength(b, ':', int(v))
	case lua.LString:
		return appendBulk(b, string(v))
	case *lua.LTable:
		if text, ok := v.RawGetString("err").(lua.LString); ok {
			return appendError(b, line(string(text)))
		}
		if text, ok := v.RawGetString("ok").(lua.LString); ok {
			return append(append(append(b, '+'), line(string(text))...), "\r\n"...)
		}
		n := 0
		for v.RawGetInt(n+1) != lua.LNil {
			n++
		}
		b = appendLength(b, '*', n)
		for at := range n {
			b = answerOf(b, v.RawGetInt(at+1))
		}
		return b
	}
	return append(b, "$-1\r\n"...)
}

// bitAnd is bit.band.
func bitAnd(l *lua.LState) int {
	n := uint32(l.CheckInt64(1))
	for at := 2; at <= l.GetTop(); at++ {
		n &= uint32(l.CheckInt64(at))
	}
	l.Push(lua.LNumber(int32(n)))
	return 1
}

// errorReply is redis.error_reply.
func errorReply(l *lua.LState) int {
	text := strings.TrimPrefix(l.CheckString(1), "-")
	if !strings.Contains(text, " ") {
		text = "ERR " + text
	}
	l.Push(failed(l, text))
	return 1
}

// statusReply is redis.status_reply.
func statusReply(l *lua.LState) int {
	t := l.CreateTable(0, 1)
	t.RawSetString("ok", lua.LString(l.CheckString(1)))
	l.Push(t)
	return 1
}

// sha1Hex is redis.sha1hex.
func sha1Hex(l *lua.LState) int {
	l.Push(lua.LString(shaOf(l.CheckString(1))))
	return 1
}
