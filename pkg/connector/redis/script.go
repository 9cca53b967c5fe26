package redis

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts so
	_ "embed"
	"encoding/hex"
	"strings"

	"github.com/kisgrid/kisgrid/internal/redisreply"
)

// saveSource is the text of save.lua. It has a placeholder, which rowAnswers replace: Go code and the script share that list.
//
//go:embed save.lua
var saveSource string

// saveScript carries out Saves. Its SHA is the name by which Redis knows the script once it has run there.
var saveScript = newLuaScript(strings.Replace(saveSource, "{--[[row answers]]}", luaList(rowAnswers), 1))

// luaList writes texts as a table in the language Lua.
func luaList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = "'" + text + "'"
	}
	return "{" + strings.Join(quoted, ", ") + "}"
}

// luaScript is the source of a script, and the SHA-1 of the source as hexadecimal digits.
type luaScript struct{ source, sha string }

// newLuaScript makes the luaScript of a source.
func newLuaScript(source string) luaScript {
	sum := sha1.Sum([]byte(source)) //nolint:gosec // as above
	return luaScript{source, hex.EncodeToString(sum[:])}
}

// isNoScript reports whether Redis does not know a script by its SHA: it was restarted, or it is another server.
func isNoScript(err error) bool {
	return err != nil && redisreply.IsAnswer(err) && strings.HasPrefix(err.Error(), "NOSCRIPT")
}
