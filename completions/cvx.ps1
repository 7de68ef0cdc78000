# PowerShell completion for cvx. Made by `cvx completion show powershell`; do not edit.
Register-ArgumentCompleter -Native -CommandName cvx -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
    # An empty word would be lost on its way to a program, so it is said in another way.
    $open = if ($wordToComplete -eq '') { @('--open') } else { @() }
    & cvx completion words @open -- @words 2>$null | ForEach-Object {
        $value, $help = $_ -split "`t", 2
        if (-not $help) { $help = $value }
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
    }
}
