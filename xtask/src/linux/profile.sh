# What the shell reads when it starts.
PS1='linux# '
# Without -f they ask the first process, which waits for the shell.
alias poweroff='poweroff -f' halt='halt -f' reboot='reboot -f'
