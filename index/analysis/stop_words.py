"""Words that carry little of what a text is about, by language: opted into per index, as `_english_`."""

from __future__ import annotations

from typing import Final

_WORDS: Final = {
    "english": (
        "a an and are as at be but by for if in into is it no not of on or such that the their then "
        "there these they this to was will with"
    ),
    "german": (
        "aber als am an auch auf aus bei bin bis da das dass dem den der des die du durch ein eine "
        "einem einen einer eines er es für hat hatte ich ihr im in ist ja mit nach nicht noch nur "
        "oder sein sich sie sind so über um und uns von vor war was wie wir zu zum zur"
    ),
    "french": (
        "au aux avec ce ces dans de des du elle en et eux il ils je la le les leur lui ma mais me mes "
        "moi mon ne nos notre nous on ou par pas pour qu que qui sa se ses son sont sur ta te tes toi "
        "ton tu un une vos votre vous"
    ),
    "spanish": (
        "a al como con de del el ella ellas ellos en entre era es esta este fue ha hay la las le les "
        "lo los más me mi muy no nos o para pero por que se ser si sin sobre su sus también te tu un "
        "una uno y ya"
    ),
    "italian": (
        "a al alla anche che chi ci come con cui da dal dalla dei del della delle di e ed era gli ha "
        "i il in io la le lo loro ma mi nel nella noi non o per più quella quello questa questo se si "
        "sono su sul sulla tra un una uno"
    ),
    "portuguese": (
        "a ao aos as com como da das de do dos e ela ele em entre era essa esse esta este eu foi há "
        "isso já mais mas me muito na não nas no nos o os ou para pela pelo por quando que se sem ser "
        "seu sua são também tem um uma"
    ),
    "dutch": (
        "aan al als bij dat de den der deze die dit door een en er had heb het hij hoe ik in is je "
        "kan maar me met mijn naar niet nog nu of om ons ook op over te tot uit van voor waren was "
        "wat we wel werd wie zal zich zij zijn zo"
    ),
    "swedish": (
        "alla att av de den det detta du där efter ej eller en ett för från ha hade han har hon hur i "
        "inte jag kan man med men min mot ni nu när och om oss på samma sig sin ska som så till under "
        "upp ut var vi vid är över"
    ),
    "danish": (
        "af alle at blev da de den der det dig din du efter eller en er et for fra ham han har hun "
        "hvad hvis i ikke ind jeg jer kan man med meget men mig min når og også om op os på sig sin "
        "skal som så til ud var vi vil være"
    ),
    "norwegian": (
        "alle at av bare ble da de den der det deg du eller en er et etter for fra ha hadde han har "
        "hun hva hvis i ikke inn jeg kan man med meg men min når og også om opp oss på seg sin skal "
        "som så til ut var vi vil være"
    ),
    "finnish": (
        "ei eli en että he hän ja jos joka jossa kun kuin me mikä minä mutta myös ne niin nyt oli "
        "olla on ovat se sekä siitä sinä tai te tämä vaan vai vain"
    ),
    "russian": (
        "а без бы был была были было в вам вас вы да для до его ее если есть же за и из или им их к "
        "как ко когда кто ли мне мы на не него нет но о об он она они оно от по под при с со так то "
        "только ты у уже что это я"
    ),
    "hungarian": (
        "a az be csak de egy el én ez és fel ha hogy is itt ki le lehet ma már meg mi mint még most "
        "nem olyan ott pedig sem szerint te ti úgy vagy van volt"
    ),
    "romanian": (
        "a ai al ale am ar are așa ca care ce cu da dar de din ei el este eu fi fost în între la lui "
        "mai mi mult ne nu o or pe pentru prin sa să se și sunt sau tu un una unde"
    ),
    "turkish": (
        "acaba ama bazı bir biz bu çok çünkü da daha de defa diye eğer en gibi hem hep hepsi her hiç "
        "için ile ise kez ki kim mı mu mü nasıl ne neden o sanki siz şey şu tüm ve veya ya yani"
    ),
    "korean": ("그 그리고 그러나 그런데 및 또 또는 등 이 저 것 수 때 더"),
}

STOP_WORDS: Final = {f"_{language}_": frozenset(words.split()) for language, words in _WORDS.items()}
